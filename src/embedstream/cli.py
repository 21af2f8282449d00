"""The command line: parses, builds, calls.

Imports of what a command needs stand inside it: `embedstream version` must not load Kafka's client.
"""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import embedstream
from embedstream.dead_letters.commands import app as dead_letters_app
from embedstream.display import as_json, json_with_list, printable, progress, say
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.index.commands import app as index_app
from embedstream.journey.commands import forget, where
from embedstream.local.commands import app as local_app
from embedstream.migrate.commands import app as migrate_app
from embedstream.model.commands import app as model_app
from embedstream.options import AsJson, OfPipeline, command_group
from embedstream.pipelines.choice import all_settings, pipeline_settings
from embedstream.pipelines.commands import app as pipelines_app
from embedstream.search.commands import search_
from embedstream.settings import load_settings

app = command_group(
    "Streaming text embeddings from Kafka to PostgreSQL/pgvector. "
    "Settings are environment variables: see the Configuration table of the README.",
    add_completion=False,
)
app.add_typer(local_app, name="local")
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(index_app, name="index")
app.add_typer(model_app, name="model")
app.add_typer(migrate_app, name="migrate")
app.add_typer(pipelines_app, name="pipelines")

Dir = Annotated[Path, typer.Option("--dir", help="Directory of the embedded stack.")]


@app.command()
def version(json: AsJson = False) -> None:
    """Print the version.

    Example: embedstream version
    """
    say(as_json({"version": embedstream.__version__}) if json else embedstream.__version__)


@app.command()
def demo(
    *,
    dir: Annotated[Path | None, typer.Option("--dir", help="Directory of the embedded stack.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send only so many docstrings.")] = None,
    cdc: Annotated[bool, typer.Option("--cdc", help="Send rows of a table, as Debezium captures them.")] = False,
) -> None:
    """Start the embedded stack unless it runs, and show the pipeline at work on the standard library's docstrings.

    With --cdc they are rows of a table, in a stack of its own (.embedstream-cdc).

    Example: embedstream demo
    """
    if cdc and limit:
        raise ConfigError("--limit is for the demo without --cdc: leave it out")
    if cdc:
        _demo_cdc(dir or Path(".embedstream-cdc"))
        return
    from embedstream import demo
    from embedstream.local.stack import ensure_up

    settings = ensure_up(dir or Path(".embedstream"))
    demo.run(settings, limit)
    demo.show_next_steps(settings)


def _demo_cdc(dir: Path) -> None:
    try:
        from embedstream import demo_cdc
    except ModuleNotFoundError as exc:
        raise ConfigError(f"{exc.name} is not installed: pip install 'embedstream[local,job,service]'") from exc
    demo_cdc.run(demo_cdc.start(dir))
    demo_cdc.show_next_steps(dir)


@app.command()
def submit(
    *,
    replace: Annotated[bool, typer.Option(help="Stop the job that runs with a savepoint, and start it anew.")] = False,
    adopt_topic: Annotated[
        bool,
        typer.Option(
            "--adopt-topic", help="Take the topic for a new one (recreated, mirrored): read it from its start."
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until every task of the job runs.")] = 120.0,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep the job submitted until SIGTERM, and stop it then with a savepoint.")
    ] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="With --follow: a file that exists while every task of the job runs.")
    ] = None,
    logs: Annotated[Path | None, typer.Option(help="With --follow: a directory of Flink's logs to print.")] = None,
    pipeline: OfPipeline = None,
) -> None:
    """Create topics and table where they are missing, and start the job unless it runs already.

    Example: embedstream submit --replace
    """
    from embedstream.submit import submit

    if not follow:
        submit(pipeline_settings(pipeline), say, replace=replace, adopts=adopt_topic, timeout=timeout)
        return
    from embedstream.follow import follow as keep
    from embedstream.logtail import LogTail

    pipelines = [pipeline_settings(pipeline)] if pipeline else list(all_settings(load_settings()).values())
    keep(pipelines, say, ready_file, LogTail(logs, say) if logs else lambda: None)


@app.command()
def flink_env() -> None:
    """Print the variables that JobManager and TaskManagers need for the job's login to Kafka, secrets included.

    Example: eval "$(embedstream flink-env)"
    """
    from embedstream.kafka import cluster_environment
    from embedstream.local.commands import render_exports

    variables = cluster_environment(load_settings())
    options = variables.pop("JAVA_TOOL_OPTIONS", None)
    say(render_exports(variables))
    if options:  # behind those that there are
        say(f'export JAVA_TOOL_OPTIONS="${{JAVA_TOOL_OPTIONS-}} "{shlex.quote(options)}')


@app.command()
def service() -> None:
    """Run the embedding service until it gets SIGTERM or Ctrl-C.

    Example: EMBEDDING_PORT=5000 embedstream service
    """
    from embedstream.service.http.server import serve

    serve(load_settings())


@app.command()
def console() -> None:
    """Run the console, pages and the API of the search, until it gets SIGTERM or Ctrl-C.

    Example: embedstream console
    """
    try:
        from embedstream.console.server import serve
    except ModuleNotFoundError as exc:
        raise ConfigError(f"{exc.name} is not installed: pip install 'embedstream[console]'") from exc

    serve(load_settings())


@app.command()
def mcp() -> None:
    """Answer an agent over standard input and output (Model Context Protocol), until it closes them.

    Example: claude mcp add embedstream -- embedstream mcp
    """
    try:
        from embedstream.mcp.stdio import serve
    except ModuleNotFoundError as exc:
        raise ConfigError(f"{exc.name} is not installed: pip install 'embedstream[mcp]'") from exc

    serve(load_settings())


@app.command()
def send(
    file: Annotated[
        typer.FileBinaryRead | None, typer.Argument(help="JSON lines, a message each (left out: stdin).")
    ] = None,
    *,
    key_field: Annotated[str, typer.Option(help="Field whose value becomes the record's key.")] = "id",
    delete: Annotated[list[str] | None, typer.Option(help="Send the delete of this id instead (repeatable).")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Send each line once it is read, for input without end, up to a bad one.")
    ] = False,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Send messages, or deletes, to the input topic.

    Every line is checked as the job will, before the first one is sent: where one would be rejected, all such lines are
    named, and nothing is sent. What is typed at a terminal is sent line by line, as with --stream.

    Example: echo '{"id": "msg-1", "text": "hello"}' | embedstream send
    """
    from embedstream.send import Checker, model_of_service, send_deletes, send_lines, stream_lines

    settings = pipeline_settings(pipeline)
    topic = settings.kafka_input_topic
    checker = Checker(settings, key_field, model_of_service(settings, partial(say, to_stderr=True)))
    source = file or sys.stdin.buffer
    with progress("sending") as update:
        if not delete and (stream or source.isatty()):
            count = stream_lines(settings, source, checker, update)
            say(as_json({"topic": topic, "sent": count}) if json else f"{count} sent to topic {topic}")
            return
        sent = send_deletes(settings, delete, checker) if delete else send_lines(settings, source, checker, update)
    if not json:
        say(f"{len(sent.entries)} sent to topic {topic}")
        return
    for line in json_with_list({"topic": topic, "sent": len(sent.entries)}, "records", sent.records(topic)):
        say(line)


app.command("search")(search_)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 where the pipeline is not healthy.")] = False,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Print how far, how fresh and how healthy the pipeline is; a part that is away costs its own line only.

    Example: embedstream status --watch
    """
    from embedstream.status.read import Observer
    from embedstream.status.show import as_text
    from embedstream.status.watch import watch as keep_looking

    observer = Observer(pipeline_settings(pipeline))
    if watch:
        keep_looking(observer, say, json=json)
        return
    found = observer.read()
    say(as_json(found) if json else as_text(found))
    raise typer.Exit(check and found.health.state != "healthy")


@app.command()
def doctor(pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """Check service, database, broker, clocks and Flink, and say what to do; exit 1 where something is wrong.

    Writes nothing anywhere, so it can be run before the first message as well as beside a running job.

    Example: embedstream doctor --json
    """
    from embedstream.doctor import examine

    findings = examine(pipeline_settings(pipeline))
    lines = (printable(str(finding)) for finding in findings)
    say(as_json([finding._asdict() for finding in findings]) if json else "\n".join(lines))
    raise typer.Exit(any(finding.state == "FAIL" for finding in findings))


@app.command()
def audit(
    *,
    sample: Annotated[int, typer.Option(min=0, help="Embed so many random rows again, and compare.")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Send again what is wrong, remove orphans.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what --repair would do.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Ids to list of each kind of finding.")] = 20,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Prove that the table is what the topic says; exit code 1 where it is not.

    Example: embedstream audit --repair
    """
    from embedstream.audit import Wishes, audit

    report = audit(pipeline_settings(pipeline), Wishes(sample, limit, repair, dry_run))
    say(as_json(report.as_facts()) if json else report)
    sys.exit(0 if report.equal else 1)


app.command()(where)
app.command()(forget)


def main() -> None:
    """Entry point: errors of ours become one line on standard error and exit code 2."""
    try:
        app()
    except EmbedstreamError as exc:
        say(f"embedstream: {exc}", to_stderr=True)
        sys.exit(2)
