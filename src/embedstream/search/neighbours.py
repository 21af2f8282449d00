"""A sample of the table, and which of its rows are near each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg.sql import SQL

from embedstream import store
from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from psycopg.sql import Composed

    from embedstream.settings import Settings

MOST = 5000
NEAREST = 16
LEAST = 20
CHARACTERS = 300
_BLOCK = 512
# Of more rows than these pages are chosen, not rows: for that every page is read.
_ALL_READ = 500_000


@dataclass(frozen=True)
class Point:
    """A row; `text` is the beginning of one that has so many characters."""

    id: str
    text: str
    characters: int
    source: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Neighbours:
    """Of each point the nearest others among them, nearest first, and their cosine distances."""

    rows: int
    points: tuple[Point, ...]
    nearest: NDArray[np.int32]
    distances: NDArray[np.float32]


def read(settings: Settings, update: Callable[[int], None] = lambda _: None) -> Neighbours:
    """At most about MOST rows; `update` is told of how many the neighbours are known.

    Raises ConfigError where there is no table, or where it has too few rows.
    """
    with store.database(settings) as connection:
        store.pinned_space(connection, settings)
        is_chunked = store.read_splitting(connection, settings) is not None
        key = SQL("id, chunk_key" if is_chunked else "id")
        ((rows,),) = connection.execute(_statements(settings, key)["size"], {"enough": MOST + 1}).fetchall()
        statement = _statements(settings, key, by_pages=rows > _ALL_READ)["sample"]
        facts = {"characters": CHARACTERS, "percent": min(100.0, 100.0 * MOST / max(1, rows)), "most": MOST}
        found = connection.cursor(binary=True).execute(statement, facts).fetchall()
    if len(found) < LEAST:
        raise ConfigError(f"table {settings.pgvector_table} has too few rows for a map: it takes {LEAST} of them")
    nearest, distances = graph([row[-1] for row in found], update)
    return Neighbours(int(rows), tuple(Point(*row[:-1]) for row in found), nearest, distances)


def _statements(settings: Settings, key: SQL, *, by_pages: bool = False) -> dict[str, Composed]:
    sampling = SQL("SYSTEM" if by_pages else "BERNOULLI")
    return store.statements(settings.pgvector_table, "map.sql", key=key, sampling=sampling)


def graph(
    vectors: Sequence[Sequence[float]], update: Callable[[int], None] = lambda _: None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The NEAREST others of each vector, found exactly, block by block."""
    all_ = np.asarray(vectors, dtype=np.float32)
    all_ /= np.maximum(np.linalg.norm(all_, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    count = min(NEAREST, len(all_) - 1)
    nearest = np.empty((len(all_), count), dtype=np.int32)
    distances = np.empty((len(all_), count), dtype=np.float32)
    for start in range(0, len(all_), _BLOCK):
        block = slice(start, start + _BLOCK)
        similar = all_[block] @ all_.T
        here = np.arange(len(similar))
        similar[here, start + here] = -np.inf
        some = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similar, some, axis=1), axis=1, kind="stable")
        nearest[block] = np.take_along_axis(some, order, axis=1)
        distances[block] = np.maximum(0, 1 - np.take_along_axis(similar, nearest[block], axis=1))
        update(start + len(similar))
    return nearest, distances
