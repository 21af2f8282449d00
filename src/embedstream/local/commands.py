"""`embedstream local`: the embedded stack on the command line.

Loads the stack only when a command needs it: no help text needs the extra `local`.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedstream.display import say
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.local.names import ALIASES, OPTIONAL, PARTS
from embedstream.options import AsJson, command_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.local.stack import Stack
    from embedstream.local.state import PartRecord, StackState

app = command_group("Run the whole stack on this machine, without Docker.")

Directory = Annotated[Path, typer.Option("--dir", help="Directory of the stack: its data, logs and state.")]
FixedPort = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to use instead of a free one.")]

DEFAULT_DIRECTORY = Path(".embedstream")


@app.command()
def up(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything runs.")] = False,
    no_job: Annotated[bool, typer.Option("--no-job", help="Start the parts, and submit no job.")] = False,
    only: Annotated[str | None, typer.Option(help=f"Start only these parts, of: {', '.join(PARTS)}.")] = None,
    with_: Annotated[
        str | None, typer.Option("--with", help=f"Start these parts as well, of: {', '.join(OPTIONAL)}.")
    ] = None,
    connector: Annotated[
        list[Path] | None,
        typer.Option(help="Properties of a connector for Kafka Connect, which starts as well; may be repeated."),
    ] = None,
    kafka_port: FixedPort = None,
    postgres_port: FixedPort = None,
    flink_port: FixedPort = None,
    service_port: FixedPort = None,
    registry_port: FixedPort = None,
    console_port: FixedPort = None,
) -> None:
    """Start PostgreSQL, Kafka, Flink, the embedding service and the console, and submit the job.

    Runs until Ctrl-C, or in the background with --detach. Data stays in the directory.

    Example: embedstream local up --detach && eval "$(embedstream local env)"
    """
    stack = _stack(directory)
    ports = {"kafka": kafka_port, "postgres": postgres_port, "flink": flink_port, "service": service_port}
    ports |= {"registry": registry_port, "console": console_port}
    fixed = {name: port for name, port in ports.items() if port}
    parts = chosen_parts(only, ",".join(filter(None, [with_, "connect" if connector else None])), no_job=no_job)
    raise typer.Exit(
        stack.up_in_background(parts, fixed, say, connector or ())
        if detach
        else stack.up(parts, fixed, _say, connector or ())
    )


def _stack(directory: Path) -> Stack:
    try:
        from embedstream.local.stack import Stack  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise ConfigError(f"{exc.name} is not installed: pip install 'embedstream[local,job,service]'") from exc
    return Stack(directory)


def chosen_parts(only: str | None, with_: str | None = None, *, no_job: bool) -> tuple[str, ...]:
    all_parts = (*OPTIONAL, *PARTS)
    names = _names("--only", only, (*all_parts, *ALIASES)) if only else set(PARTS)
    names |= {part for alias in names & ALIASES.keys() for part in ALIASES[alias]}
    if with_:
        names |= _names("--with", with_, OPTIONAL)
    return tuple(part for part in all_parts if part in names and not (no_job and part == "job"))


def _names(option: str, given: str, known: Sequence[str]) -> set[str]:
    names = {name.strip() for name in given.split(",")}
    if unknown := names - set(known):
        parts = (name for name in known if name not in ALIASES)
        raise ConfigError(f"{option}: no such part: {', '.join(sorted(unknown))} (there are {', '.join(parts)})")
    return names


def _say(name: str, message: str) -> None:
    with suppress(OSError):  # a reader that has gone is no reason to stop
        say(f"{time.strftime('%H:%M:%S')} {name:<11} {message}")


@app.command()
def down(
    directory: Directory = DEFAULT_DIRECTORY,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the data, too.")] = False,
) -> None:
    """Stop the stack; its data stays for the next start.

    Example: embedstream local down --delete
    """
    stack = _stack(directory)
    match stack.down():
        case None:
            say(f"stopped the stack in {stack.directory}")
        case ():
            say(f"no stack runs in {stack.directory}")
        case left:
            say(f"ended what a killed stack had left in {stack.directory}: {', '.join(left)}")
    if delete:
        stack.delete()
        say(f"deleted what it kept in {stack.directory}")


@app.command()
def status(
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Show what runs, and where; exit 1 unless everything is ready.

    Example: embedstream local status --json
    """
    stack = _stack(directory)
    state = stack.state()
    say(json.dumps(_facts(stack, state), indent=2) if as_json else _table(stack, state))
    raise typer.Exit(0 if state.is_ready else 1)


def _facts(stack: Stack, state: StackState) -> dict[str, object]:
    return {
        "directory": str(stack.directory),
        "running": state.is_running,
        "ready": state.is_ready,
        "pid": state.supervisor.pid if state.supervisor and state.is_running else None,
        "since": state.since if state.is_running else None,
        "parts": [_part_facts(asdict(part.seen_now())) for part in state.parts],
    }


def _part_facts(part: dict[str, object]) -> dict[str, object]:
    match part.pop("process"):
        case {"pid": pid}:
            return {**part, "pid": pid}
    return {**part, "pid": None}


def _table(stack: Stack, state: StackState) -> str:
    if not state.parts:
        return f"no stack runs in {stack.directory}"
    header = "" if state.is_running else "the supervisor was killed: `embedstream local down` ends what it left\n"
    rows = [("part", "state", "pid", "since", "address"), *(_row(part.seen_now()) for part in state.parts)]
    lines = [f"{row[0]:<12}{row[1]:<12}{row[2]:<9}{row[3]:<27}{row[4]}" for row in rows]
    return header + "\n".join([*lines, *(f"{part.name}: {part.reason}" for part in state.parts if part.reason)])


def _row(part: PartRecord) -> tuple[str, ...]:
    return part.name, part.state, str(part.process.pid if part.process else "-"), part.since, part.address


@app.command()
def env(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Print the settings that lead any client, and every other command, to the stack.

    Example: eval "$(embedstream local env)"
    """
    stack = _stack(directory)
    state = stack.state()
    if not state.is_running:
        raise ConfigError(f"no stack runs in {stack.directory}: start it with `embedstream local up`")
    say(render_exports(state.exports))


def render_exports(variables: dict[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items()))


def main() -> None:
    """The same as a program of its own: what --detach runs."""
    try:
        app(prog_name="embedstream local")
    except EmbedstreamError as exc:
        say(f"embedstream: {exc}", to_stderr=True)
        sys.exit(2 if isinstance(exc, ConfigError) else 1)
