"""`embedstream pipelines` on the command line; like cli.py it imports what a command needs inside of it."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import typer

from embedstream.display import as_json, say, table
from embedstream.errors import ConfigError
from embedstream.options import AsJson, command_group
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedstream.pipelines.file import Loaded

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
        yield {"name": name, "ok": not found, "tests": len(pipeline.tests), "failures": found}


def _lines(path: Path, facts: dict[str, Any]) -> Iterator[str]:
    tests = f", {facts['tests']} test{'' if facts['tests'] == 1 else 's'}" if facts["tests"] else ""
    yield f"{facts['name']}: {'ok' if facts['ok'] else 'failed'}{tests}"
    for each in facts["failures"]:
        where = f"{path}:{each['line']}:{each['column']}: {each['path']}"
        yield f"  {where}: expected {each['expected']}, got {each['got']}"


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
    return [of_pipeline(name, pipeline) for name, pipeline in load_file(path).pipelines.items()]


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file, with which editors complete and check it.

    Example: embedstream pipelines schema > embedstream.schema.json
    """
    file = resources.files("embedstream.pipelines").joinpath("embedstream.schema.json")
    say(file.read_text(encoding="utf-8").rstrip())
