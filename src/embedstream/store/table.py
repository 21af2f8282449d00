"""Writes micro-batches to the table and its ledger."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from embedstream.errors import Rejected, StoreUnavailable
from embedstream.ingest import Change, Known, Written
from embedstream.message import Delete, Version
from embedstream.store.connection import connect, trouble
from embedstream.store.names import statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from psycopg.abc import AdaptContext, Buffer

    from embedstream.settings import Settings
    from embedstream.space import Space

_INCOMING_TYPES = (
    "text", "timestamptz", "text", "int4", "int8", "text", "bytea",
    "text", "float4[]", "text", "timestamptz", "text", "int4", "bool",
)  # fmt: skip
# Number of dimensions, whether there are nulls, type of the elements, size, index of the first.
_ARRAY_HEADER = 5
_DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


class TableStore:
    """Writes micro-batches (see `ingest.Store`); one connection, opened when needed and again after trouble."""

    def __init__(self, settings: Settings, space: Space) -> None:
        self._settings = settings
        self._space = space
        self._sql = statements(settings.pgvector_table)
        self._connection: psycopg.Connection[Any] | None = None

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def look_up(self, ids: Sequence[str]) -> Mapping[str, Known]:
        with self._connected() as connection:
            rows = connection.execute(self._sql["look_up"], {"ids": ids}, prepare=True)
            return {id: Known(Version(*version), hash_) for id, *version, hash_ in rows}

    def write(self, changes: Sequence[Change]) -> Written:
        """Where PostgreSQL refuses a row for its data, the others are written all the same."""
        try:
            with self._connected() as connection, connection.transaction(), connection.cursor() as cursor:
                return Written(self._write(cursor, changes), {})
        except _DATA_ERRORS as exc:
            if len(changes) == 1:
                return Written((), {changes[0].item.id: _refusal(exc)})
        middle = len(changes) // 2
        left, right = self.write(changes[:middle]), self.write(changes[middle:])
        return Written({*left.won, *right.won}, {**left.rejected, **right.rejected})

    def _write(self, cursor: psycopg.Cursor[Any], changes: Sequence[Change]) -> set[str]:
        with cursor.copy(self._sql["copy_incoming"]) as copy:
            copy.set_types(_INCOMING_TYPES)
            for change in changes:
                copy.write_row(_row(change))
        won = {id for (id,) in cursor.execute(self._sql["claim"], prepare=True)}
        facts = {"won": list(won), "model_name": self._space.model_name, "model_revision": self._space.model_revision}
        for name in sorted({_statement(change) for change in changes if change.item.id in won}):
            cursor.execute(self._sql[name], facts, prepare=True)
        return won

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        """Yields a live connection; turns trouble of the database, but not of the data, into StoreUnavailable."""
        try:
            if self._connection is None:
                self._connection = self._open()
            yield self._connection
        except _DATA_ERRORS:
            raise
        except psycopg.Error as exc:
            self.close()
            raise StoreUnavailable(trouble(exc)) from exc

    def _open(self) -> psycopg.Connection[Any]:
        connection = connect(self._settings)
        connection.adapters.register_dumper(np.ndarray, _VectorDumper)
        connection.execute(self._sql["by_primary_key"])
        connection.execute(self._sql["create_incoming"])
        return connection


def _statement(change: Change) -> str:
    if isinstance(change.item, Delete):
        return "delete"
    return "store" if change.embedded else "keep"


def _row(change: Change) -> tuple[object, ...]:
    item = change.item
    if isinstance(item, Delete):
        return (item.id, *item.version, "deleted", *(None,) * 8)
    head = (item.id, *item.version, "live", item.content_hash)
    if change.embedded is None:
        return (*head, None, None, item.source, item.timestamp, item.metadata, None, None)
    vector, tokens, truncated = change.embedded
    return (*head, item.text, vector, item.source, item.timestamp, item.metadata, tokens, truncated)


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


def _refusal(exc: psycopg.Error) -> Rejected:
    return Rejected("store", f"sqlstate_{exc.sqlstate}", f"PostgreSQL refuses the row ({type(exc).__name__})")
