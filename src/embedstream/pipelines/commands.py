"""`embedstream pipelines` on the command line; like cli.py it imports what a command needs inside of it."""

from __future__ import annotations

from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedstream.display import as_json, say, table
from embedstream.errors import ConfigError
from embedstream.options import AsJson, command_group
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedstream.pipelines.file import Loaded
    from embedstream.settings import Settings

_JOINED_ID = (
    "the parts of id are joined by a colon as they are: records of which two parts hold colons may become one row"
)

app = command_group(
    "Check and list the pipelines of the file embedstream.yaml, or of that which EMBEDSTREAM_FILE names."
)


@app.command()
def check(json: AsJson = False) -> None:
    """Check the whole file, and run the tests in it; exit 1 where something is wrong.

    Nothing but the file is looked at: neither Kafka nor the database need to be there.

    Example: embedstream pipelines check
    """
    from embedstream.pipelines.choice import load_file
    from embedstream.pipelines.problem import BadFile

    path = _path()
    try:
        loaded = load_file(path)
    except BadFile as exc:
        say(as_json({"file": exc.file, "ok": False, "problems": _problems(exc)}) if json else "\n".join(exc.lines()))
        raise typer.Exit(1) from exc
    found = list(_tested(loaded))
    ok = all(each["ok"] for each in found)
    if json:
        say(as_json({"file": str(path), "ok": ok, "pipelines": found}))
    else:
        say("\n".join(line for each in found for line in _lines(path, each)))
        for each in found:
            for note in each["notes"]:
                say(f"{each['name']}: note: {note}", to_stderr=True)
    raise typer.Exit(not ok)


def _path() -> Path:
    from embedstream.pipelines.choice import DEFAULT_NAME, file_of

    path = file_of(load_settings())
    if path is None:
        raise ConfigError(f"there is no {DEFAULT_NAME} here: set EMBEDSTREAM_FILE to the file of pipelines")
    return path


def _problems(exc: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a BadFile
    return [
        {"line": each.place.line, "column": each.place.column, "path": each.path, "problem": each.sentence}
        for each in exc.problems
    ]


def _tested(loaded: Loaded) -> Iterator[dict[str, Any]]:
    from embedstream.pipelines.cases import failures
    from embedstream.pipelines.expressions import problem
    from embedstream.pipelines.wiring import decode

    for name, pipeline in loaded.pipelines.items():
        found = []
        for failure in failures(pipeline, decode):
            place = problem(loaded.root, ("pipelines", name, *failure.path), str(failure))
            facts = {"line": place.place.line, "column": place.place.column, "path": place.path}
            found.append({**facts, "expected": failure.expected, "got": failure.got})
        notes = [_JOINED_ID] if isinstance(pipeline.id, tuple) and len(pipeline.id) > 1 else []
        yield {"name": name, "ok": not found, "tests": len(pipeline.tests), "failures": found, "notes": notes}


def _lines(path: Path, facts: dict[str, Any]) -> Iterator[str]:
    tests = f", {facts['tests']} test{'' if facts['tests'] == 1 else 's'}" if facts["tests"] else ""
    yield f"{facts['name']}: {'ok' if facts['ok'] else 'failed'}{tests}"
    for each in facts["failures"]:
        where = f"{path}:{each['line']}:{each['column']}: {each['path']}"
        yield f"  {where}: expected {each['expected']}, got {each['got']}"


@app.command("try")
def try_(
    name: Annotated[str | None, typer.Argument(help="Pipeline, where the file has several.")] = None,
    last: Annotated[
        int, typer.Option("--last", "--from-topic", min=1, max=1000, help="So many of the topic's latest records.")
    ] = 5,
    json: AsJson = False,
) -> None:
    """Show what the latest records of the topic would become, each beside its place; nothing is written.

    Example: embedstream pipelines try articles --last 3
    """
    from embedstream.decode.opening import decoder_of
    from embedstream.pipelines.choice import pipeline_settings
    from embedstream.pipelines.trying import latest, lines, splitter_now, tried

    settings = pipeline_settings(name)
    decode, splitter = decoder_of(settings, None), splitter_now(settings)
    found = [tried(record, decode, splitter) for record in latest(settings, last)]
    if json:
        say(as_json({"topic": settings.kafka_input_topic, "records": found}))
        return
    shown = "\n".join(line for facts in found for line in lines(facts))
    say(shown or f"topic {settings.kafka_input_topic} has no record yet")


@app.command("list")
def list_(json: AsJson = False) -> None:
    """List the pipelines; without a file, the one that the environment variables describe.

    Example: embedstream pipelines list --json
    """
    found = _listed()
    if json:
        say(as_json(found))
        return
    columns = ("name", "topic", "table", "job", "format", "envelope", "mapping_hash")
    say(table(columns, [[_cell(each[column]) for column in columns] for each in found]))


def _cell(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _listed() -> list[dict[str, Any]]:
    from embedstream.pipelines.choice import file_of, load_file
    from embedstream.pipelines.show import of_pipeline, of_settings

    settings = load_settings()
    path = file_of(settings)
    if path is None:
        return [of_settings(settings)]
    return [of_pipeline(name, pipeline, settings) for name, pipeline in load_file(path).pipelines.items()]


@app.command()
def diff(
    prune: Annotated[bool, typer.Option("--prune", help="Also name jobs of embedstream that no pipeline has.")] = False,
    json: AsJson = False,
) -> None:
    """Say what `apply` would do, and why; nothing is changed. Exit 1 where there is something to do.

    Example: embedstream pipelines diff
    """
    from embedstream.pipelines.applying import plan

    steps = plan(_named(), prunes=prune)
    say(as_json([step._asdict() for step in steps]) if json else "\n".join(map(str, steps)))
    raise typer.Exit(any(step.action != "leave" for step in steps))


@app.command()
def apply(
    name: Annotated[str | None, typer.Argument(help="Only this pipeline.")] = None,
    *,
    replay: Annotated[
        bool, typer.Option("--replay", help="Read the topic again, so that all of the table is as the mapping has it.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Stop jobs of embedstream that no pipeline has.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until every task of a job runs.")] = 120.0,
) -> None:
    """Submit what does not run, replace what runs otherwise than the file says, and leave the rest alone.

    A replay reads a pipeline's topic from its first record; a text that did not change costs no embedding call.

    Example: embedstream pipelines apply articles --replay
    """
    from embedstream.pipelines.applying import apply as carry_out
    from embedstream.pipelines.applying import plan

    pipelines = _named(name)
    for step in plan(pipelines, prunes=prune):
        settings = pipelines.get(step.pipeline, next(iter(pipelines.values())))
        carry_out(step, settings, partial(_say_of, step.pipeline), replays=replay, timeout=timeout)


def _say_of(name: str, line: str) -> None:
    say(f"{name}: {line}")


def _named(name: str | None = None) -> dict[str, Settings]:
    """The settings of all pipelines, or of one; without a file its job's name stands for the one that there is."""
    from embedstream.pipelines.choice import all_settings, pipeline_settings

    if name is not None:
        return {name: pipeline_settings(name)}
    return {key or settings.flink_job_name: settings for key, settings in all_settings(load_settings()).items()}


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file, with which editors complete and check it.

    Example: embedstream pipelines schema > embedstream.schema.json
    """
    file = resources.files("embedstream.pipelines").joinpath("embedstream.schema.json")
    say(file.read_text(encoding="utf-8").rstrip())
