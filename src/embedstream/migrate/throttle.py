"""Leaves the most of the time to the live stream."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from embedstream import kafka, store
from embedstream.errors import EmbedstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

LOOK_SECONDS = 2.0
# A stream that keeps up has about a second of messages on their way.
SMALL_LAG = 1000


class Throttle:
    """Works for at most `share` of the time, and not at all while more than SMALL_LAG messages are unread.

    `lag` gives their number, None where it is not known: then only the share holds.
    """

    def __init__(
        self,
        share: float,
        lag: Callable[[], int | None],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.share = share
        self._lag = lag
        self._sleep = sleep
        self._clock = clock
        self._due = 0.0
        self.is_behind = False

    def rest(self, worked: float) -> None:
        """Rest for what `worked` seconds of work cost; and while the live stream is behind, once for LOOK_SECONDS."""
        self._sleep(worked * (1 - self.share) / self.share)
        self._look()
        if self.is_behind:
            self._sleep(LOOK_SECONDS)

    def _look(self) -> None:
        if self._clock() < self._due:
            return
        lag = self._lag()
        self.is_behind = lag is not None and lag > SMALL_LAG
        self._due = self._clock() + 0.9 * LOOK_SECONDS


class Watched:
    """The latest answer of a question that is asked again and again in a thread of its own; None before the first.

    A broker that is away lets it wait, and nobody else.
    """

    def __init__(self, ask: Callable[[], int | None]) -> None:
        self._ask = ask
        self._answer: int | None = None
        threading.Thread(target=self._watch, name="lag", daemon=True).start()

    def __call__(self) -> int | None:
        return self._answer

    def _watch(self) -> None:
        while True:
            self._answer = self._ask()
            time.sleep(LOOK_SECONDS)


def lag_of(settings: Settings) -> int | None:
    """How many messages the table is behind its topic; None where that cannot be told."""
    try:
        with store.database(settings) as connection:
            progress = store.read_progress(connection, settings)
        recorded = {number: each.next for number, each in progress.items()}
        return sum(position.unread for position in kafka.positions(settings, recorded, complete=bool(recorded)))
    except EmbedstreamError:
        return None
