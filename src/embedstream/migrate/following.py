"""Keeps ingesting while the table moves from one space to another."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from embedstream import store
from embedstream.errors import EmbedstreamError, RetryLater, SpaceMoved, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.decode.message import Record
    from embedstream.ingest import Ingest, Outcome
    from embedstream.retry import Patience, Waits
    from embedstream.settings import Settings
    from embedstream.space import Space

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_SECONDS = 2.0


class Built(NamedTuple):
    """An ingest for a table of one space, and what gives back what it holds."""

    ingest: Ingest
    space: Space
    close: Callable[[], None]


class Following:
    """An ingest that is built at its first batch, and anew whenever the table was cut over to another space.

    A batch that meets a cut-over is ingested again as a whole: what of it was written by then is there already. The
    counts of texts are those of all that were built.
    """

    def __init__(self, build: Callable[[], Built], patience: Patience) -> None:
        self._build = build
        self._patience = patience
        self._built: Built | None = None
        self._embedded = 0
        self._known = 0

    @property
    def texts_embedded(self) -> int:
        return self._embedded + (self._built.ingest.texts_embedded if self._built else 0)

    @property
    def texts_known(self) -> int:
        return self._known + (self._built.ingest.texts_known if self._built else 0)

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        while True:
            built = self._built = self._built or self._as_the_table_is()
            try:
                return built.ingest(records)
            except SpaceMoved as exc:
                logger.info("%s: going on with its model", exc, extra={"action": "space moved"})
                self._close(built)
                self._built = self._patience(partial(self._another, built.space))

    def _as_the_table_is(self) -> Built:
        """What is built waits for a service, and meanwhile the table may move on."""
        while True:
            try:
                return self._build()
            except SpaceMoved as exc:
                logger.info("%s: going on with its model", exc, extra={"action": "space moved"})

    def _another(self, former: Space) -> Built:
        built = self._as_the_table_is()
        if built.space == former:
            built.close()
            raise StoreUnavailable(
                f"the table takes no vectors of {former}, but says that it holds them: somebody changed one of the two"
            )
        return built

    def _close(self, built: Built) -> None:
        self._embedded, self._known = self.texts_embedded, self.texts_known
        self._built = None
        built.close()


class Stays:
    """Patience with the service of a space for as long as the table is of that: who waits for a service that was ended
    after the table had gone to another would wait for ever. Raises SpaceMoved; the table is asked now and then.
    """

    def __init__(self, patience: Waits, settings: Settings, space: Space) -> None:
        self._patience = patience
        self._settings = settings
        self._space = space
        self._due = 0.0

    def __call__(self, call: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return call()
            except RetryLater:
                self._look()
                raise

        return self._patience(attempt)

    def _look(self) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LOOK_SECONDS
        now = self._space
        with suppress(EmbedstreamError), store.database(self._settings) as connection:
            now = store.read_space(connection, self._settings) or now
        if now != self._space:
            raise SpaceMoved(f"table {self._settings.pgvector_table} holds vectors of {now} now")
