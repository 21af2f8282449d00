"""Writes micro-batches to the table, its ledger and its progress."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from embedstream.decode.message import Delete, Version
from embedstream.errors import SpaceMoved, StoreUnavailable
from embedstream.ingest import Change, Known, Written
from embedstream.space import Space
from embedstream.store import refusals, rows
from embedstream.store.connection import connect, is_pooled, trouble
from embedstream.store.names import model_check, statements
from embedstream.store.progress import Forgotten, Stands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from embedstream.ingest import Advance, Place
    from embedstream.settings import Settings
    from embedstream.store.progress import HasRecord

    Cursor = psycopg.Cursor[Any]


class _Claimed(NamedTuple):
    """The ids that won, those of them that are new to the ledger, and the time of the transaction."""

    won: set[str]
    new: set[str]
    at: datetime | None


class TableStore:
    """Writes micro-batches (see `ingest.Store`); one connection, opened when needed and again after trouble.

    Behind a pooler each transaction brings what it needs along; a session of our own is set up and prepares once.

    `has_record` tells whether the log has a record between two offsets of a partition.
    """

    def __init__(self, settings: Settings, space: Space, has_record: HasRecord | None = None) -> None:
        self._settings = settings
        self._space = space
        self._sql = statements(settings.pgvector_table)
        self._stands = Stands(settings.pgvector_table, has_record)
        self._connection: psycopg.Connection[Any] | None = None
        self._is_pooled = False
        self._is_restricted = False

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def is_migrating(self) -> bool:
        """Whether the table is on its way to another space; raises SpaceMoved where it has arrived in one."""
        with self._connected() as connection:
            row = connection.execute(self._sql["watch"]).fetchone()
        if row is None or Space(*row[:-1]) == self._space:
            return bool(row and row[-1])
        raise SpaceMoved(f"table {self._settings.pgvector_table} holds vectors of {Space(*row[:-1])} now")

    def resume(self, starts: Mapping[Place, int]) -> None:
        if self._stands.are_new(starts):
            with self._connected() as connection:
                self._stands.resume(connection, starts)

    def look_up(self, ids: Sequence[str]) -> Mapping[str, Known]:
        with self._connected() as connection:
            rows = connection.execute(self._sql["look_up"], {"ids": ids}, prepare=not self._is_pooled)
            return {id: Known(Version(*version), hash_) for id, *version, hash_ in rows}

    def write(self, changes: Sequence[Change], advance: Advance | None = None) -> Written:
        """Where PostgreSQL refuses a row, the others are written all the same."""
        try:
            return self._commit(changes, advance)
        except (psycopg.Error, refusals.RowRefused) as exc:
            if len(changes) == 1:
                return Written((), {changes[0].item.id: refusals.as_rejected(exc)})
        middle = len(changes) // 2
        left, right = self.write(changes[:middle]), self.write(changes[middle:])
        return Written({*left.won, *right.won}, {**left.rejected, **right.rejected})

    def advance(self, advance: Advance) -> None:
        self._commit((), advance)

    def _commit(self, changes: Sequence[Change], advance: Advance | None) -> Written:
        """One transaction; a row that stands in the table without an entry of the ledger is replaced, too."""
        try:
            return self._attempt(changes, advance, copies=True)
        except psycopg.errors.UniqueViolation:
            return self._attempt(changes, advance, copies=False)

    def _attempt(self, changes: Sequence[Change], advance: Advance | None, *, copies: bool) -> Written:
        with self._connected() as connection:
            try:
                return self._transact(connection, changes, advance, copies=copies)
            except Forgotten as exc:
                self._stands.mark(connection, exc.gaps)
                raise

    def _transact(
        self, connection: psycopg.Connection[Any], changes: Sequence[Change], advance: Advance | None, *, copies: bool
    ) -> Written:
        with connection.transaction(), connection.cursor() as cursor:
            if self._is_pooled:
                cursor.execute(self._sql["limits"], {"local": True})
            claimed = self._write(cursor, changes, copies=copies) if changes else _Claimed(set(), set(), None)
            is_last = advance is not None and len(claimed.won) == len(changes)
            new = Counter(_place(change) for change in changes if change.item.id in claimed.new)
            stands = self._stands.move(cursor, advance if is_last else None, new, prepare=not self._is_pooled)
        self._stands.seen(stands)
        return Written(claimed.won, {}, is_last)

    def _write(self, cursor: Cursor, changes: Sequence[Change], *, copies: bool) -> _Claimed:
        claimed = self._claim(cursor, changes)
        winners = [change for change in changes if change.item.id in claimed.won]
        new = claimed.new if copies and not self._is_restricted else set()
        self._copy(cursor, [c for c in winners if c.embedded and c.item.id in new], claimed.at)
        self._execute(cursor, "store", [c for c in winners if c.embedded and c.item.id not in new])
        self._execute(cursor, "keep", [c for c in winners if not c.embedded and not isinstance(c.item, Delete)])
        self._execute(cursor, "delete", [c for c in winners if isinstance(c.item, Delete)])
        return claimed

    def _claim(self, cursor: Cursor, changes: Sequence[Change]) -> _Claimed:
        found = cursor.execute(self._sql["claim"], self._claims(changes), prepare=not self._is_pooled).fetchall()
        at = found[0][2] if found else None
        return _Claimed({id for id, _, _ in found}, {id for id, is_new, _ in found if is_new}, at)

    def _claims(self, changes: Sequence[Change]) -> dict[str, Any]:
        return rows.claims(changes)

    def _copy(self, cursor: Cursor, changes: Sequence[Change], at: datetime | None) -> None:
        if not changes:
            return
        with cursor.copy(self._sql["copy_new"]) as copy:
            copy.set_types(rows.TYPES)
            for change in changes:
                copy.write_row(rows.whole(change, self._space, at))
        refusals.raise_unless_stored(cursor.rowcount, len(changes))

    def _execute(self, cursor: Cursor, name: str, changes: Sequence[Change]) -> None:
        if not changes:
            return
        cursor.execute(self._sql[name], getattr(rows, name)(changes, self._space), prepare=not self._is_pooled)
        if (done := cursor.rowcount) == len(changes):
            return
        if name == "store":
            refusals.raise_unless_stored(done, len(changes))
        (there,) = cursor.execute(self._sql["count_rows"], rows.delete(changes, self._space)).fetchall()[0]
        refusals.raise_unless_stored(done, done + there if name == "delete" else there)
        if name == "keep":
            raise StoreUnavailable("somebody removed a row while it was written")

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        """Yields a live connection; turns trouble of the database, but not of the rows, into StoreUnavailable."""
        try:
            if self._connection is None:
                self._connection = self._open()
            yield self._connection
        except refusals.RowRefused:
            raise
        except psycopg.Error as exc:
            if exc.diag.constraint_name == model_check(self._settings.pgvector_table):
                raise self._moved() from exc
            if refusals.is_of_the_row(exc, self._connection, self._settings):
                raise
            self.close()
            raise StoreUnavailable(trouble(exc)) from exc

    def _moved(self) -> SpaceMoved:
        return SpaceMoved(f"table {self._settings.pgvector_table} takes no vectors of {self._space}")

    def _open(self) -> psycopg.Connection[Any]:
        connection = connect(self._settings)
        rows.register(connection)
        self._is_pooled = is_pooled(connection)
        if not self._is_pooled:
            connection.execute(self._sql["limits"], {"local": False})
        # COPY is not to be had where row level security is at work.
        (self._is_restricted,) = connection.execute(self._sql["is_restricted"]).fetchall()[0]
        return connection


def _place(change: Change) -> Place:
    return change.item.version.topic, change.item.version.partition
