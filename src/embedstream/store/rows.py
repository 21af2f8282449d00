"""From changes to what PostgreSQL takes: arrays for its statements, rows for COPY."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.json import Jsonb

from embedstream.decode.message import Delete
from embedstream.ingest import Embedded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg.abc import AdaptContext, Buffer

    from embedstream.ingest import Change
    from embedstream.space import Space

# Number of dimensions, whether there are nulls, type of the elements, size, index of the first.
_ARRAY_HEADER = 5

TYPES = (
    "text", "text", "float4[]", "text", "text", "text", "timestamptz", "timestamptz", "jsonb", "int4", "bool",
)  # fmt: skip
"""Of the columns that `whole` fills."""


def claims(changes: Sequence[Change]) -> dict[str, Any]:
    """`decided` are those that need nothing of the row that stands there: they bring a vector, or delete it."""
    items = [change.item for change in changes]
    decided = [isinstance(change.item, Delete) or change.embedded is not None for change in changes]
    return {
        "id": [item.id for item in items],
        "event_time": [item.version.event_time for item in items],
        "topic": [item.version.topic for item in items],
        "partition": [item.version.partition for item in items],
        "offset": [item.version.offset for item in items],
        "item": [item.version.item for item in items],
        "state": ["deleted" if isinstance(item, Delete) else "live" for item in items],
        "content_hash": [None if isinstance(item, Delete) else item.content_hash for item in items],
        "decided": decided,
        "all_decided": all(decided),
        "decided_ids": [item.id for item, is_decided in zip(items, decided, strict=True) if is_decided],
    }


def whole(change: Change, space: Space, at: datetime | None) -> tuple[object, ...]:
    """A row of the table, for COPY."""
    item, embedded = change.item, change.embedded
    if isinstance(item, Delete) or not isinstance(embedded, Embedded):
        raise TypeError("only a message with its vector is a whole row")
    vector, tokens, truncated = embedded
    return (
        item.id, item.text, vector, space.model_name, space.model_revision, item.source, item.timestamp, at,
        Jsonb(item.metadata, dumps=_as_it_is), tokens, truncated,
    )  # fmt: skip


def store(changes: Sequence[Change], space: Space) -> dict[str, Any]:
    """The vectors go as one array of all numbers; `first` and `last` are each row's part of it, from 1."""
    embedded = [change.embedded for change in changes if isinstance(change.embedded, Embedded)]
    lasts = np.cumsum([len(each.vector) for each in embedded])
    return {
        **keep(changes, space),
        "text": [change.item.text for change in changes if not isinstance(change.item, Delete)],
        "vectors": np.concatenate([each.vector for each in embedded]),
        "first": [1, *(lasts[:-1] + 1).tolist()],
        "last": lasts.tolist(),
        "token_count": [each.token_count for each in embedded],
        "truncated": [each.truncated for each in embedded],
        "model_name": space.model_name,
        "model_revision": space.model_revision,
    }


def keep(changes: Sequence[Change], _: Space) -> dict[str, Any]:
    items = [change.item for change in changes if not isinstance(change.item, Delete)]
    return {
        "id": [item.id for item in items],
        "source": [item.source for item in items],
        "message_timestamp": [item.timestamp for item in items],
        "metadata": [item.metadata for item in items],
    }


def delete(changes: Sequence[Change], _: Space) -> dict[str, Any]:
    return {"id": [change.item.id for change in changes]}


def register(connection: psycopg.Connection[Any]) -> None:
    """Have the connection take arrays of numpy."""
    connection.adapters.register_dumper(np.ndarray, _VectorDumper)


def _as_it_is(metadata: str) -> str:
    return metadata


class _VectorDumper(Dumper):
    """A float32 array of shape (n,) as PostgreSQL's binary real[] (src/backend/utils/adt/arrayfuncs.c, array_send)."""

    format = Format.BINARY
    oid = psycopg.adapters.types["float4"].array_oid

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self._words = _words_of_array(0)

    def dump(self, obj: np.ndarray[Any, Any]) -> Buffer:
        if len(self._words) != _ARRAY_HEADER + 2 * len(obj):
            self._words = _words_of_array(len(obj))
        self._words[_ARRAY_HEADER + 1 :: 2].view(">f4")[:] = obj
        return self._words.tobytes()


def _words_of_array(size: int) -> np.ndarray[Any, Any]:
    """All of a binary real[] but its numbers, each of which has its length in bytes before it."""
    words = np.full(_ARRAY_HEADER + 2 * size, 4, ">i4")
    words[:_ARRAY_HEADER] = 1, 0, psycopg.adapters.types["float4"].oid, size, 1
    return words
