"""What a worker of the job does beside its own work while its table is migrated: it embeds for the other table, too."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from embedstream import store
from embedstream.decode.message import Delete
from embedstream.errors import EmbedstreamError
from embedstream.migrate.filling import Text, filler
from embedstream.migrate.relations import ready
from embedstream.migrate.state import read, read_beside
from embedstream.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from embedstream.ingest import Advance, Change, Written
    from embedstream.migrate.filling import Filler
    from embedstream.migrate.relations import Sql
    from embedstream.migrate.state import Beside, Migration
    from embedstream.settings import Settings
    from embedstream.store import DocumentStore, TableStore

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_MOST_TEXTS = 512
_MOST_CHARACTERS = 1_000_000
# What is more stays without its vector, for `migrate resume` or the cut-over.
_MOST_WAITING = 4096
_MOST_DOCUMENTS_WAITING = 512
_PAUSE = 1.0


class MigratingStore:
    """A store (see `ingest.Store`) whose table may be on its way to another space.

    At most once a second it looks whether that is so. Raises SpaceMoved from `write` once the table has arrived.
    """

    def __init__(self, table: TableStore, settings: Settings) -> None:
        self._table = table
        self._settings = settings
        self._due = 0.0
        self._second: Second | None = None
        self.resume = table.resume
        self.look_up = table.look_up
        self.advance = table.advance

    def close(self) -> None:
        self._end_second()
        self._table.close()

    def write(self, changes: Sequence[Change], advance: Advance | None = None) -> Written:
        if time.monotonic() >= self._due:
            self._look()
        written = self._table.write(changes, advance)
        if self._second:
            self._second.take(_texts(changes, written.won))
        return written

    def _look(self) -> None:
        if self._table.is_migrating():
            self._second = self._second or Second(self._settings)
        else:
            self._end_second()
        self._due = time.monotonic() + LOOK_SECONDS

    def _end_second(self) -> None:
        if self._second:
            self._second.close()
        self._second = None


class MigratingDocuments(MigratingStore):
    """As MigratingStore, for a store of documents."""

    def __init__(self, table: DocumentStore, settings: Settings) -> None:
        super().__init__(table, settings)
        self.look_up_chunks = table.look_up_chunks
        self.read_text = table.read_text


def _texts(changes: Sequence[Change], won: Collection[str]) -> list[Text]:
    return [
        Text(item.id, item.text, item.prefix)
        for item, embedded in changes
        if embedded and not isinstance(item, Delete) and item.text is not None and item.id in won
    ]


class Second:
    """A thread that embeds texts with the other space's service, and writes the vectors beside.

    It never holds up who gives it texts: where it cannot keep up it leaves texts out, and the rows lack their vectors
    until somebody fills them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        most = _MOST_DOCUMENTS_WAITING if settings.is_chunked else _MOST_WAITING
        self._waiting: queue.Queue[Text | None] = queue.Queue(most)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="second space", daemon=True)
        self._thread.start()

    def take(self, texts: Sequence[Text]) -> None:
        with suppress(queue.Full):
            for text in texts:
                self._waiting.put_nowait(text)

    def close(self) -> None:
        """What waits is left out."""
        self._is_closed.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)

    def _run(self) -> None:
        """Trouble is told once, and where it comes again: a step of the migration takes a table away only once."""
        last, told = "", ""
        while not self._is_closed.is_set():
            try:
                self._work()
            except (EmbedstreamError, psycopg.Error) as exc:
                if str(exc) == last != told:
                    told = last
                    logger.warning("the other space's vectors are left to `embedstream migrate resume`: %s", told)
                last = str(exc)
                self._is_closed.wait(_PAUSE)

    def _work(self) -> None:
        """Until the migration is another one or rests; texts that come in a pause are left out."""
        with store.database(self._settings) as connection:
            while (migration := read(connection, self._settings)) is None or migration.paused:
                self._drain()
                if self._is_closed.wait(_PAUSE):
                    return
            sql, found = ready(connection, self._settings, migration.role)
            with filler(self._settings, connection, sql, found, Patience(sleep=self._sleep)) as other:
                while not self._is_closed.is_set() and self._still(connection, migration, sql, found):
                    self._fill(other)

    def _still(self, connection: psycopg.Connection[Any], migration: Migration, sql: Sql, found: Beside) -> bool:
        """Whether what was seen of the migration holds."""
        now = read(connection, self._settings)
        return (
            now is not None
            and not now.paused
            and (now.started_at, now.switched_at) == (migration.started_at, migration.switched_at)
            and read_beside(connection, sql) == found
        )

    def _fill(self, other: Filler) -> None:
        """For a while; of an id with several texts the latest is the one that can stand there."""
        due = time.monotonic() + 10 * LOOK_SECONDS
        while not self._is_closed.is_set() and time.monotonic() < due:
            latest = {text.id: text for text in self._next()}
            if latest:
                other.write(other.embed(list(latest.values())))

    def _next(self) -> list[Text]:
        texts: list[Text] = []
        characters = 0
        with suppress(queue.Empty):
            texts += [text for text in [self._waiting.get(timeout=LOOK_SECONDS)] if text]
            while len(texts) < _MOST_TEXTS and characters < _MOST_CHARACTERS:
                text = self._waiting.get_nowait()
                if text is None:
                    break
                texts.append(text)
                characters += len(text.text)
        return texts

    def _drain(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()

    def _sleep(self, seconds: float) -> None:
        """The wait for a service that is away; ended with the thread."""
        if self._is_closed.wait(seconds):
            raise EmbedstreamError("closed")
