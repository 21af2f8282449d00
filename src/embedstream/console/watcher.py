"""Looks at a pipeline again and again, once for all who watch it."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from embedstream.errors import EmbedstreamError
from embedstream.web.serving import start_thread

if TYPE_CHECKING:
    from embedstream.status.read import Status

WATCHED_EVERY = 2.0
UNWATCHED_EVERY = 10.0
_WATCHED_FOR = 30.0
_KEPT = 450


class Reads(Protocol):
    def read(self) -> Status: ...


class Reading(NamedTuple):
    """What one look found at `at`, in UTC; `error` where nothing at all answered."""

    at: datetime
    status: Status | None
    error: str | None = None


class Point(NamedTuple):
    """A moment of the charts: seconds since the epoch, rows a second, messages unread and the age of their oldest in
    seconds; None where it was not known.
    """

    at: float
    rate: float | None
    lag: int | None
    age: float | None


class Watcher:
    """A thread that looks every two seconds while somebody asks, else every ten: ten viewers cost no more than one."""

    def __init__(self, observer: Reads) -> None:
        self._observer = observer
        self._reading: Reading | None = None
        self._points: deque[Point] = deque(maxlen=_KEPT)
        self._asked = 0.0
        self._wake = threading.Event()
        self._stopped = False

    def start(self) -> None:
        start_thread(self._look)

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def latest(self) -> Reading | None:
        """None until the first look is over."""
        if time.monotonic() - self._asked > _WATCHED_FOR:
            self._wake.set()
        self._asked = time.monotonic()
        return self._reading

    def seen(self) -> Reading | None:
        """As `latest`, for a program that asks day and night: it does not count as somebody who watches."""
        return self._reading

    def points(self) -> list[Point]:
        return list(self._points)

    def look(self) -> Reading:
        """A look of its own, kept as all others are."""
        now = datetime.now(UTC)
        try:
            status = self._observer.read()
        except EmbedstreamError as exc:
            reading = Reading(now, None, str(exc))
        else:
            reading = Reading(now, status)
            age = status.oldest_unread_seconds if status.lag else 0.0 if status.lag == 0 else None
            self._points.append(Point(now.timestamp(), status.rate, status.lag, age))
        self._reading = reading
        return reading

    def _look(self) -> None:
        while not self._stopped:
            self.look()
            watched = time.monotonic() - self._asked < _WATCHED_FOR
            self._wake.wait(WATCHED_EVERY if watched else UNWATCHED_EVERY)
            self._wake.clear()
