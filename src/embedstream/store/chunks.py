"""Writes documents to a table of chunks, its documents, its ledger and its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.decode.message import Delete
from embedstream.documents import Held
from embedstream.errors import EmbedstreamError
from embedstream.ingest import Written
from embedstream.store import chunk_rows, refusals, rows
from embedstream.store.names import documents_of, statements
from embedstream.store.table import TableStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from embedstream.ingest import Advance, Change
    from embedstream.settings import Settings
    from embedstream.space import Space
    from embedstream.store.chunk_rows import Document
    from embedstream.store.progress import HasRecord
    from embedstream.store.table import Cursor, _Claimed


class _Moved(EmbedstreamError):
    """Somebody added or removed chunks of a document since they were looked up."""


class DocumentStore(TableStore):
    """As TableStore, for a table that `prepare` made with a splitting; a message to store comes `Chunked`.

    The ledger decides for a document; its chunks follow in the same transaction. Those that it had before keep their
    vectors, and only their places are written.
    """

    def __init__(self, settings: Settings, space: Space, has_record: HasRecord | None = None) -> None:
        super().__init__(settings, space, has_record)
        table, documents = settings.pgvector_table, documents_of(settings.pgvector_table)
        own = statements(table, "chunks.sql", documents=documents)
        self._sql = statements(table, documents=documents, basis=own["basis"]) | own

    def look_up_chunks(self, ids: Sequence[str]) -> Mapping[str, Held]:
        """What is held of each document; of one that is not there, nothing."""
        with self._connected() as connection, connection.cursor(binary=True) as cursor:
            cursor.execute(self._sql["look_up_chunks"], {"ids": ids}, prepare=not self._is_pooled)
            return {id: Held(hash_, frozenset(keys)) for id, hash_, keys in cursor}

    def read_text(self, id: str, content_hash: bytes) -> str | None:
        """The text of a document; None where it has another version by now."""
        with self._connected() as connection:
            facts = {"id": id, "content_hash": content_hash}
            found = connection.execute(self._sql["read_text"], facts, prepare=False).fetchone()
            return found[0] if found else None

    def write(self, changes: Sequence[Change], advance: Advance | None = None) -> Written:
        """A document whose chunks are not those that were looked up is not written, as if it had not won."""
        try:
            return super().write(changes, advance)
        except _Moved:
            if len(changes) == 1:
                return Written((), {})
        middle = len(changes) // 2
        left, right = self.write(changes[:middle]), self.write(changes[middle:])
        return Written({*left.won, *right.won}, {**left.rejected, **right.rejected})

    def _write(self, cursor: Cursor, changes: Sequence[Change], *, copies: bool) -> _Claimed:
        claimed = self._claim(cursor, changes)
        winners = [change for change in changes if change.item.id in claimed.won]
        self._replace(
            cursor, chunk_rows.documents_of(winners), claimed.at if copies and not self._is_restricted else None
        )
        self._execute(cursor, "keep", [c for c in winners if not c.embedded and not isinstance(c.item, Delete)])
        self._delete(cursor, [c for c in winners if isinstance(c.item, Delete)])
        return claimed

    def _claims(self, changes: Sequence[Change]) -> dict[str, Any]:
        return {**rows.claims(changes), "basis": [chunk_rows.basis(change) for change in changes]}

    def _replace(self, cursor: Cursor, documents: Sequence[Document], at: datetime | None) -> None:
        """Bring the chunks of documents to what they are to be; with `at`, the time of the transaction, by COPY."""
        if not documents:
            return
        self._run(cursor, "put", chunk_rows.put(documents))
        refusals.raise_unless_stored(cursor.rowcount, len(documents))
        gone = chunk_rows.drop(documents)
        dropped = self._run(cursor, "drop", gone)
        self._add(cursor, chunk_rows.new(documents), at)
        self._run(cursor, "move", chunk_rows.move(documents))
        if self._count(cursor, [item.id for item, _ in documents]) != sum(len(c.chunks) for _, c in documents):
            # Where a trigger keeps what is to go, to try again would be for ever.
            refusals.raise_unless_stored(dropped, len(gone["id"]))
            raise _Moved("the chunks of a document are not those that were looked up")

    def _add(self, cursor: Cursor, new: Sequence[chunk_rows.New], at: datetime | None) -> None:
        if not new:
            return
        if at is None:
            self._run(cursor, "add", chunk_rows.add(new, self._space))
        else:
            with cursor.copy(self._sql["copy_new"]) as copy:
                copy.set_types(chunk_rows.TYPES)
                for row in new:
                    copy.write_row(chunk_rows.whole(row, self._space, at))
        refusals.raise_unless_stored(cursor.rowcount, len(new))

    def _delete(self, cursor: Cursor, changes: Sequence[Change]) -> None:
        if not changes:
            return
        self._execute(cursor, "delete", changes)
        ids = [change.item.id for change in changes]
        self._run(cursor, "delete_chunks", {"id": ids})
        refusals.raise_unless_stored(self._count(cursor, ids), 0)

    def _run(self, cursor: Cursor, name: str, facts: dict[str, Any]) -> int:
        """The number of rows that the statement concerns; nothing is asked where there are none."""
        if not facts["id"]:
            return 0
        cursor.execute(self._sql[name], facts, prepare=not self._is_pooled)
        return cursor.rowcount

    def _count(self, cursor: Cursor, ids: Sequence[str]) -> int:
        """Raises SpaceMoved where they are of another space: what was done here was cut otherwise."""
        space = {"model_name": self._space.model_name, "model_revision": self._space.model_revision}
        cursor.execute(self._sql["count_chunks"], {"id": ids, **space}, prepare=not self._is_pooled)
        there, is_ours = cursor.fetchall()[0]
        if is_ours is False:
            raise self._moved()
        return int(there)
