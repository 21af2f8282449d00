"""From documents to what PostgreSQL takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embedstream.decode.message import Delete, Message
from embedstream.documents import Chunked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import TypeAlias

    from embedstream.decode.chunks import Chunk
    from embedstream.ingest import Change, Embedded
    from embedstream.space import Space

    Document: TypeAlias = tuple[Message, Chunked]
    New: TypeAlias = tuple[str, Chunk, Embedded]


class Named(Protocol):
    """What chunks belong to."""

    @property
    def id(self) -> str: ...


TYPES = (
    "text", "bytea", "int4", "int4", "int4", "text", "float4[]", "text", "text", "timestamptz", "int4", "bool",
)  # fmt: skip
"""Of the columns that `whole` fills."""


def documents_of(changes: Iterable[Change]) -> list[Document]:
    return [
        (change.item, change.embedded)
        for change in changes
        if isinstance(change.item, Message) and isinstance(change.embedded, Chunked)
    ]


def basis(change: Change) -> bytes | None:
    """The hash in the ledger with which go the chunks that a change builds upon."""
    if isinstance(change.embedded, Chunked):
        return change.embedded.held.content_hash
    return None if isinstance(change.item, Delete) else change.item.content_hash


def put(documents: Sequence[Document]) -> dict[str, Any]:
    items = [item for item, _ in documents]
    return {
        "id": [item.id for item in items],
        "text": [item.text for item in items],
        "prefix": [item.prefix for item in items],
        "source": [item.source for item in items],
        "message_timestamp": [item.timestamp for item in items],
        "metadata": [item.metadata for item in items],
        "chunks": [len(chunked.chunks) for _, chunked in documents],
        "unseen": [chunked.unseen for _, chunked in documents],
    }


def drop(documents: Iterable[tuple[Named, Chunked]]) -> dict[str, Any]:
    pairs = [
        (item.id, key)
        for item, chunked in documents
        for key in sorted(chunked.held.keys.difference(chunk.key for chunk in chunked.chunks))
    ]
    return {"id": [id for id, _ in pairs], "key": [key for _, key in pairs]}


def move(documents: Iterable[tuple[Named, Chunked]]) -> dict[str, Any]:
    """All that are kept."""
    return _places(
        [
            (item.id, chunk)
            for item, chunked in documents
            for chunk in chunked.chunks
            if chunk.key not in chunked.embedded
        ]
    )


def _places(rows: Sequence[tuple[str, Chunk]]) -> dict[str, Any]:
    return {
        "id": [id for id, _ in rows],
        "key": [chunk.key for _, chunk in rows],
        "seq": [chunk.seq for _, chunk in rows],
        "start": [chunk.start for _, chunk in rows],
        "end": [chunk.end for _, chunk in rows],
    }


def new(documents: Iterable[tuple[Named, Chunked]]) -> list[New]:
    return [
        (item.id, chunk, chunked.embedded[chunk.key])
        for item, chunked in documents
        for chunk in chunked.chunks
        if chunk.key in chunked.embedded
    ]


def whole(row: New, space: Space, at: datetime | None) -> tuple[object, ...]:
    """A row of the table, for COPY."""
    id, (key, seq, start, end, text), (vector, tokens, truncated) = row
    return (id, key, seq, start, end, text, vector, space.model_name, space.model_revision, at, tokens, truncated)


def add(rows: Sequence[New], space: Space) -> dict[str, Any]:
    """As `rows.store`."""
    lasts = np.cumsum([len(embedded.vector) for _, _, embedded in rows])
    return {
        **_places([(id, chunk) for id, chunk, _ in rows]),
        "text": [chunk.text for _, chunk, _ in rows],
        "vectors": np.concatenate([embedded.vector for _, _, embedded in rows]),
        "first": [1, *(lasts[:-1] + 1).tolist()],
        "last": lasts.tolist(),
        "token_count": [embedded.token_count for _, _, embedded in rows],
        "truncated": [embedded.truncated for _, _, embedded in rows],
        "model_name": space.model_name,
        "model_revision": space.model_revision,
    }
