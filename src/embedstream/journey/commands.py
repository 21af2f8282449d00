"""`embedstream where` and `embedstream forget` on the command line; imports what they need inside, as cli.py does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from embedstream.display import as_json, progress, say
from embedstream.errors import ConfigError
from embedstream.options import AsJson, OfPipeline  # noqa: TC001 - typer reads the annotations
from embedstream.pipelines.choice import pipeline_settings

if TYPE_CHECKING:
    from embedstream.journey.report import At, Journey
    from embedstream.journey.scan import Bounds
    from embedstream.settings import Settings

Partition = Annotated[int | None, typer.Option(min=0, help="Look for versions in this partition only.")]
Since = Annotated[
    str | None, typer.Option(help="Look at records since this time (ISO 8601), or so long ago: 30m, 2h, 7d.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Look at so many of the newest records at most.", show_default="1,000,000")
]
All = Annotated[bool, typer.Option("--all", help="Look at the whole topic: every partition, from its first record.")]


def where(
    id: Annotated[str | None, typer.Argument(help="Id of a message.")] = None,
    *,
    at: Annotated[
        str | None, typer.Option(metavar="PARTITION:OFFSET", help="Ask after the record at this place instead.")
    ] = None,
    partition: Partition = None,
    since: Since = None,
    limit: Limit = None,
    all: All = False,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Tell what became of a message: each version of its id, where it stands in the topic, and its outcome.

    It looks at the newest records of the partition that the id stands in, or of all where its key does not tell, and
    says what it did not look at. Exit code 1 where nothing is known of the message, or its outcome is unexplained.

    Example: embedstream where msg-1
    """
    from embedstream.journey.show import as_text

    if (id is None) == (at is None):
        raise ConfigError("name an id, or a place of the topic with --at PARTITION:OFFSET")
    settings = pipeline_settings(pipeline)
    found = _by_place(settings, at) if at else _by_id(settings, id or "", partition, since, limit, all_=all)
    say(as_json(found.as_facts()) if json else as_text(found))
    raise typer.Exit(not (found.known and found.explained))


def forget(
    id: Annotated[str, typer.Argument(help="Id of a message.")],
    *,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait until the row is gone.")] = 60.0,
    partition: Partition = None,
    since: Since = None,
    limit: Limit = None,
    all: All = False,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Delete a message, wait until its row is gone, and tell where its text still stands.

    What it tells with --json is a record of the erasure. The topic is looked at for its text as by `where`. Exit code
    1 where the row is not gone at the time-out.

    Example: embedstream forget msg-1 --all --json
    """
    from embedstream.forget import forget as erase
    from embedstream.forget.show import as_text

    bounds = _bounds(partition, since, limit, all_=all)
    found = erase(pipeline_settings(pipeline), id, timeout, bounds, progress)
    say(as_json(found.as_facts()) if json else as_text(found))
    raise typer.Exit(not found.gone)


def _by_place(settings: Settings, at: str) -> At:
    from embedstream.dead_letters.letter import Place
    from embedstream.journey import trace

    return trace.at(settings, *Place.parse(at), progress)


def _by_id(
    settings: Settings, id: str, partition: int | None, since: str | None, limit: int | None, *, all_: bool
) -> Journey:
    from embedstream.journey import trace

    return trace.journey(settings, id, _bounds(partition, since, limit, all_=all_), progress)


def _bounds(partition: int | None, since: str | None, limit: int | None, *, all_: bool) -> Bounds:
    from embedstream.dead_letters.letter import parse_since
    from embedstream.journey.scan import LIMIT, Bounds

    if all_ and (partition is not None or since or limit):
        raise ConfigError("--all looks at the whole topic: leave out --partition, --since and --limit")
    moment = parse_since(since, datetime.now(UTC)) if since else None
    return Bounds(partition, moment, None if all_ else limit or LIMIT, all_)
