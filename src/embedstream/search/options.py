"""What `embedstream search` can be told, and what that means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Words = Annotated[str | None, typer.Argument(help="What to look for, in words.")]
Count = Annotated[int, typer.Option("-k", "--count", min=1, help="Rows to print.")]
Mode = Annotated[
    Literal["semantic", "keyword", "hybrid"], typer.Option(help="Look by meaning, by the words, or by both.")
]
Like = Annotated[
    str | None, typer.Option("--like", metavar="ID", help="Instead of words: what is like the row of this id.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        help="Metadata filter: key=value or a JSON object; all given must hold. year=2024 finds the number "
        "and the string 2024 (so do true, false, null); year='\"2024\"', arrays and objects find that JSON alone."
    ),
]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        metavar="JSON",
        help='Filter with operators, as {"field": "metadata.year", "op": "gte", "value": 2024}; and, or, not.',
    ),
]
WithWords = Annotated[
    str | None, typer.Option("--words", help='Only rows with these words: "a phrase" and -without work.')
]
After = Annotated[str | None, typer.Option(help="Only messages of this time (ISO 8601) or later.")]
Before = Annotated[str | None, typer.Option(help="Only messages before this time.")]
MinSimilarity = Annotated[
    float | None, typer.Option(min=-1, max=1, help="By meaning, only what is at least so similar.")
]
Offset = Annotated[int, typer.Option(min=0, help="Leave out so many rows: the pages before.")]
Exact = Annotated[bool, typer.Option("--exact", help="Look at every row, even where there is an index.")]
EfSearch = Annotated[
    int | None, typer.Option(min=1, max=1000, help="More find what the index misses, and take longer.")
]
By = Annotated[
    Literal["chunk", "document"],
    typer.Option(help="What a row is where texts are in chunks: a chunk, or a document with its nearest chunk."),
]
WaitFor = Annotated[
    list[str] | None,
    typer.Option(metavar="PARTITION:OFFSET", help="Look once the table has this record (see send --json)."),
]
Timeout = Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait for it.")]
Highlight = Annotated[bool, typer.Option("--highlight", help="With --json: where the words stand.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Tell how it was looked, and as of which offsets; with --json an object.")
]


def moment(option: str, text: str | None) -> datetime | None:
    """A time without a zone, or a day, is of UTC, as all times that are printed."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise ConfigError(f"{option} {text!r}: write ISO 8601, as 2026-01-01 or 2026-01-01T12:00:00Z") from None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found


def offsets(places: Sequence[str]) -> dict[int, int]:
    """The last offset of each partition."""
    found: dict[int, int] = {}
    for place in places:
        partition, _, offset = place.partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise ConfigError(f"--wait-for {place!r}: write partition:offset, as embedstream send --json tells them")
        found[int(partition)] = max(int(offset), found.get(int(partition), 0))
    return found
