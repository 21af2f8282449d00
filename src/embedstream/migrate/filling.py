"""Writes vectors beside: each only to the text that it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstream.decode.message import content_hash
from embedstream.ingest import Embedded
from embedstream.store import rows as store_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg
    from psycopg.sql import Composed

    from embedstream.errors import Rejected
    from embedstream.ingest import Embedder

    Text = tuple[str, str]
    """The id of a row, and its text."""


class Vectors(NamedTuple):
    """What the service made of some texts, in their order; it refuses those without a vector."""

    texts: Sequence[Text]
    results: Sequence[Embedded | Rejected]

    @property
    def refused(self) -> dict[str, str]:
        """Why, by id."""
        pairs = zip(self.texts, self.results, strict=True)
        return {id: result.reason for (id, _), result in pairs if not isinstance(result, Embedded)}

    def as_arrays(self) -> dict[str, Any]:
        """The vectors one after the other in one array; `first` and `last` are each text's part of it, from 1."""
        found = [each if isinstance(each, Embedded) else None for each in self.results]
        vectors = [each.vector for each in found if each]
        sizes = [len(each.vector) if each else 0 for each in found]
        lasts = np.cumsum(sizes).tolist()
        return {
            "id": [id for id, _ in self.texts],
            "hash": [content_hash(text) for _, text in self.texts],
            "first": [last - size + 1 if size else None for last, size in zip(lasts, sizes, strict=True)],
            "last": [last if size else None for last, size in zip(lasts, sizes, strict=True)],
            "token_count": [each.token_count if each else 0 for each in found],
            "truncated": [bool(each and each.truncated) for each in found],
            "vectors": np.concatenate(vectors) if vectors else np.zeros(0, np.float32),
        }


def embed(embedder: Embedder, texts: Sequence[Text]) -> Vectors:
    results: list[Embedded | Rejected | None] = [None] * len(texts)
    for part in embedder.embed([text for _, text in texts]):
        for position, result in part:
            results[position] = result
    return Vectors(texts, [result for result in results if result is not None])


def write(connection: psycopg.Connection[Any], statement: Composed, vectors: Vectors) -> int:
    """The number of rows that got theirs; `statement` is `copy` or `fill` of migrate.sql."""
    return connection.execute(statement, vectors.as_arrays()).rowcount


def prepared(connection: psycopg.Connection[Any], limits: Composed) -> None:
    """Have a connection of our own write vectors, with plans that read no table whole."""
    store_rows.register(connection)
    connection.execute(limits, {"local": False})
