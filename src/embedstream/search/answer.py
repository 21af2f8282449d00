"""What is found."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Method: TypeAlias = Literal["exact", "index", "filter"]


class Chunk(NamedTuple):
    """Which part of its document a text is: characters `start` to `end`; `seq` counts from 0."""

    seq: int
    start: int
    end: int


class Places(NamedTuple):
    """Where a row stands in the list found by meaning, and in that by words, from 1; None where it does not."""

    semantic: int | None = None
    keyword: int | None = None


@dataclass(frozen=True)
class Hit:
    """A row.

    `similarity` is the cosine (-1 to 1) of its text to what was looked for, None where that was not asked; `score` is
    what the rows are ordered by: the similarity, the rank of the words, or the fused places, which are small numbers
    that mean nothing by themselves. `highlights` are the characters (start, end) of `text` that the words match.
    `matching_chunks` counts, where documents are asked for, the chunks that are as near as the last document of the
    answer, or nearer; of documents found by words, the chunks that were found.
    """

    id: str
    similarity: float | None
    score: float
    text: str
    source: str | None
    message_timestamp: datetime
    metadata: dict[str, Any]
    truncated: bool = False
    chunk: Chunk | None = None
    places: Places = field(default_factory=Places)
    highlights: tuple[tuple[int, int], ...] = ()
    matching_chunks: int | None = None


@dataclass(frozen=True)
class Answer:
    """The rows, best first, and what they reflect.

    `method` is read from PostgreSQL's plan: `index` where the vector index was used (by words alone: the word index),
    `filter` where one on metadata chose the rows that were all compared, else `exact`. `complete` is false where there
    may be rows that belong here, but looking was ended early. `as_of` is by partition the offset up to which, itself
    not included, every record of the topic has its outcome in this answer; None where the table, or this user's
    rights, do not tell. `next_offset` is where the next page begins; None where there is none.
    """

    hits: tuple[Hit, ...]
    method: Method
    complete: bool
    as_of: dict[int, int] | None
    took_ms: dict[str, float] = field(default_factory=dict)
    next_offset: int | None = None


def marked(text: str, highlights: Sequence[tuple[int, int]]) -> str:
    """The text as HTML in which the highlights are in <mark>, and all else is escaped."""
    parts, done = [], 0
    for start, end in highlights:
        parts += [html.escape(text[done:start]), f"<mark>{html.escape(text[start:end])}</mark>"]
        done = end
    return "".join((*parts, html.escape(text[done:])))
