"""`embedstream dead-letters` on the command line; like cli.py it imports what a command needs inside of it."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedstream.display import as_json, progress, say, table
from embedstream.errors import ConfigError
from embedstream.options import AsJson, OfPipeline, command_group
from embedstream.pipelines.choice import pipeline_settings

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator

    from embedstream.dead_letters.letter import DeadLetter, Facts
    from embedstream.kafka import Outgoing
    from embedstream.settings import Settings

app = command_group("Look at the messages that were rejected, send them again, or take them away as JSON lines.")

Stage = Annotated[str | None, typer.Option(help="Only those rejected by this stage: decode, embed or store.")]
Code = Annotated[str | None, typer.Option(help="Only those with this error code (dlq.error).")]
Since = Annotated[str | None, typer.Option(help="Only those since this time (ISO 8601), or so long ago: 30m, 2h, 7d.")]
_PLACE = "PARTITION:OFFSET within the dead-letter topic, as list prints it"


@app.command("list")
def list_(
    *,
    stage: Stage = None,
    code: Code = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="Print only so many of the newest; all are counted.")] = 50,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """List dead letters, the newest last, and count them by stage and code.

    Example: embedstream dead-letters list --stage decode --since 2h
    """
    from embedstream.dead_letters.letter import filter_of, read
    from embedstream.dead_letters.listing import counted

    found, counts = counted(read(pipeline_settings(pipeline)), filter_of(stage, code, since), limit)
    say(_list_as_json(found, counts) if json else _list_as_text(found, counts))


def _list_as_json(found: Iterable[Facts], counts: Counter[tuple[str, str]]) -> str:
    from embedstream.dead_letters.show import facts_of

    numbers = [{"stage": stage, "error": code, "count": number} for (stage, code), number in counts.most_common()]
    return as_json({"count": counts.total(), "counts": numbers, "dead_letters": [facts_of(facts) for facts in found]})


def _list_as_text(found: list[Facts], counts: Counter[tuple[str, str]]) -> str:
    if not found:
        return "no dead letters"
    rows = [
        (facts.place, f"{facts.at:%Y-%m-%d %H:%M:%S}", facts.stage, facts.code, facts.attempts, facts.reason)
        for facts in found
    ]
    numbers = [(number, *kind) for kind, number in counts.most_common()]
    head = f"{counts.total()} dead letters" + (
        f", of which the newest {len(found)}" if counts.total() > len(found) else ""
    )
    letters = table(["where", "at (UTC)", "stage", "error", "attempts", "reason"], rows)
    return f"{head}\n\n{letters}\n\n{table(['count', 'stage', 'error'], numbers)}"


@app.command()
def show(
    place: Annotated[str, typer.Argument(help=f"{_PLACE}.", metavar="PLACE")],
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Show a dead letter: headers, key and payload; a hex dump where they are binary, base64 in JSON.

    PLACE is where it stands in the dead-letter topic, not where the message stood in the input topic.

    Example: embedstream dead-letters show 0:17
    """
    from embedstream.dead_letters.letter import Place, read_one
    from embedstream.dead_letters.show import as_record, as_text

    letter = read_one(pipeline_settings(pipeline), Place.parse(place))
    say(as_json(as_record(letter)) if json else as_text(letter))


@app.command()
def export(
    stage: Stage = None,
    code: Code = None,
    since: Since = None,
    pipeline: OfPipeline = None,
    output: Annotated[Path | None, typer.Option(help="File to write (left out: standard output).")] = None,
) -> None:
    """Print dead letters as JSON lines; what is no UTF-8 stands in base64 under `<name>_base64`.

    Example: embedstream dead-letters export --code not_json --output broken.jsonl
    """
    from embedstream.dead_letters.letter import filter_of, read
    from embedstream.dead_letters.show import as_record

    wanted, settings = filter_of(stage, code, since), pipeline_settings(pipeline)
    lines = (json.dumps(as_record(each)) for each in read(settings) if wanted.takes(each.facts))
    if output is None:
        for line in lines:
            say(line)
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as exc:
        raise ConfigError(f"--output {output}: {exc.strerror}") from exc


@app.command()
def replay(
    *,
    places: Annotated[list[str] | None, typer.Argument(help=f"{_PLACE} (repeatable).", metavar="PLACE")] = None,
    all: Annotated[bool, typer.Option("--all", help="Replay all of them.")] = False,
    stage: Stage = None,
    code: Code = None,
    since: Since = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Open each payload in $VISUAL or $EDITOR; unchanged is unsent.")
    ] = False,
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Set a field of the payload, or metadata.KEY (repeatable)."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; print what would be sent.")] = False,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Send dead letters back to the input topic, with their original key, headers and timestamp.

    To repeat it is harmless: what was replayed before is left out, and a newer version that arrived meanwhile stays.

    Example: embedstream dead-letters replay --code other_model --set model=all-MiniLM-L6-v2 --dry-run
    """
    from embedstream.dead_letters.edit import parse_fields
    from embedstream.dead_letters.letter import filter_of
    from embedstream.dead_letters.rehearsal import rehearse
    from embedstream.dead_letters.replay import replay

    if all == bool(places or stage or code or since):
        raise ConfigError("say which dead letters: either PARTITION:OFFSET or --stage, --code, --since, or --all")
    settings, fields = pipeline_settings(pipeline), parse_fields(set or ())
    wanted = filter_of(stage, code, since, places)
    seen: list[dict[str, Any]] = []
    edit = edit and not dry_run
    change = _changer(edit=edit, fields=fields)
    if dry_run:
        result, seen, _ = rehearse(settings, wanted, change, again=again)
    else:
        tried = bool(fields) and not edit
        result = replay(settings, wanted, change, again=again, rehearse=tried, send=_sending(settings))
    facts = {"topic": settings.kafka_input_topic, "dry_run": dry_run, **result._asdict()}
    say(as_json({**facts, "records": seen} if dry_run else facts) if json else _told(facts, seen))


def _changer(*, edit: bool, fields: dict[str, object]) -> Callable[[DeadLetter], bytes | None]:
    from embedstream.dead_letters.edit import edited, with_fields
    from embedstream.dead_letters.replay import Skip

    def change(letter: DeadLetter) -> bytes | None:
        value = with_fields(letter.value, fields) if fields else letter.value
        if not edit:
            return value
        if (edited_value := edited(value)) is None:
            raise Skip
        return edited_value

    return change


def _sending(settings: Settings) -> Callable[[Iterator[Outgoing]], int]:
    from embedstream import kafka

    def send(records: Iterator[Outgoing]) -> int:
        with progress("replaying") as update:
            return kafka.produce(settings, settings.kafka_input_topic, records, update)

    return send


def _told(facts: dict[str, object], seen: Iterable[dict[str, Any]]) -> str:
    head = f"{facts['sent']} {'would be ' if facts['dry_run'] else ''}sent to topic {facts['topic']}"
    left_out = f"{facts['already_replayed']} were replayed before" if facts["already_replayed"] else ""
    skipped = "were not changed in the editor, or lack what was too large"
    unsaved = f"{facts['skipped']} {skipped}" if facts["skipped"] else ""
    lines = [
        f"partition {each['partition']}, key {each.get('key', 'binary')}, {each['size']} bytes: {each['begins']}"
        for each in seen
    ]
    return "\n".join([*lines, "; ".join(filter(None, [head, left_out, unsaved]))])
