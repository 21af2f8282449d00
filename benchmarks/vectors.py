"""Vectors that lie as a model's do, and tables of any number of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from psycopg.sql import SQL, Identifier

from embedstream import store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedstream.settings import Settings

BLOCK = 10_000
# How fast the variances of the principal components fall. With it signs, compared again for 100 candidates of 4,000
# rows, find as many of the ten nearest (0.99) as among the demo's docstrings by all-MiniLM-L6-v2; alone fewer.
DECAY = 1.5

# By name the type of each column's bytes, and what is in all rows; those of the vector depend on its dimension.
_COLUMNS: dict[str, tuple[str, object]] = {
    "id": ("S10", b""), "text": ("S400", b""), "embedding": ("", None), "model_name": ("S9", b"synthetic"),
    "model_revision": ("S1", b"1"), "message_timestamp": (">i8", 0), "embedding_timestamp": (">i8", 0),
    "metadata": ("S3", b"\x01{}"), "token_count": (">i4", 63), "truncated": ("i1", 0),
}  # fmt: skip
_OID_OF_REAL = 700
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)


class Vectors:
    """Draws from a normal distribution whose principal components fall off, in directions drawn at random."""

    def __init__(self, dimension: int, seed: int) -> None:
        self.dimension = dimension
        self._seed = seed

    @cached_property
    def _shape(self) -> NDArray[np.float32]:
        directions, _ = np.linalg.qr(np.random.default_rng(self._seed).standard_normal((self.dimension,) * 2))
        sizes = np.arange(1, self.dimension + 1) ** (-DECAY / 2)
        shape: NDArray[np.float32] = (sizes[:, None] * directions).astype(np.float32)
        return shape

    def block(self, number: int, rows: int = BLOCK) -> NDArray[np.float32]:
        """(rows, dimension), of length one: the same for a number, others for another."""
        random = np.random.default_rng([self._seed, number])
        found: NDArray[np.float32] = random.standard_normal((rows, self.dimension), dtype=np.float32) @ self._shape
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found


def fill(settings: Settings, vectors: Vectors, rows: int) -> None:
    """Into the empty table of the settings, by COPY: rows of 400 characters."""
    table = store.Names.of(settings.pgvector_table).table
    names = SQL(", ").join(map(Identifier, _COLUMNS))
    copying = SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, names)
    with store.connect(settings) as connection:
        with connection.cursor() as cursor, cursor.copy(copying) as copy:
            copy.write(_SIGNATURE)
            for first in range(0, rows, BLOCK):
                copy.write(_binary(vectors.block(first), first))
            copy.write((-1).to_bytes(2, signed=True))
        connection.execute(SQL("VACUUM ANALYZE {}").format(table))


def _binary(vectors: NDArray[np.float32], first: int) -> bytes:
    """Rows as COPY takes them: all of one length, so that they are an array of records.

    https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"; an array is its head, and each number with
    its length.
    """
    count, dimension = vectors.shape
    array = np.dtype([("head", ">i4", 5), ("numbers", [("bytes", ">i4"), ("value", ">f4")], dimension)])
    types = {name: np.dtype(type_ or array) for name, (type_, _) in _COLUMNS.items()}
    fields = [each for name, type_ in types.items() for each in ((f"{name}_bytes", ">i4"), (name, type_))]
    rows = np.zeros(count, dtype=[("fields", ">i2"), *fields])
    rows["fields"] = len(_COLUMNS)
    for name, (_, value) in _COLUMNS.items():
        rows[f"{name}_bytes"] = types[name].itemsize
        if value is not None:
            rows[name] = value
    rows["id"] = np.char.zfill(np.arange(first, first + count).astype("S"), 10)
    rows["text"] = np.char.multiply(rows["id"], 40)
    rows["embedding"]["head"] = [1, 0, _OID_OF_REAL, dimension, 1]
    rows["embedding"]["numbers"]["bytes"] = 4
    rows["embedding"]["numbers"]["value"] = vectors
    return rows.tobytes()
