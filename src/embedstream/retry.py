"""Waiting for the outside world: as long as it takes, and visibly."""

from __future__ import annotations

import logging
import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from embedstream.errors import RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_DELAY = 5.0
LOG_EVERY = 60.0
SHORTEST_ASKED, LONGEST_ASKED = 0.1, 60.0


class Waits(Protocol):
    """Calls again what raises RetryLater."""

    def __call__(self, call: Callable[[], T]) -> T: ...


class Patience:
    """Repeats calls that raise RetryLater until they succeed; safe to use from many threads.

    Delays grow exponentially from 0.1 s to `LONGEST_DELAY`, each drawn between half and all of its bound
    so that many callers do not return at once. A `retry_after` (at most a minute) is waited for, and up to half
    of it more.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._lock = threading.Lock()
        self._waiting_since: dict[int, float] = {}
        self._last_logged = -LOG_EVERY
        self._is_told = False
        self._busy_since = 0.0
        self._waited = 0.0
        self.retries = 0

    def __call__(self, call: Callable[[], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception_type(RetryLater),
            wait=_delay,
            before_sleep=self._note,
            sleep=self._sleep,
        )
        try:
            return retrying(call)
        finally:
            self._forget()

    def seconds_waited(self) -> float:
        """How long the longest wait under way has lasted; 0 where nothing waits."""
        with self._lock:
            return time.monotonic() - min(self._waiting_since.values()) if self._waiting_since else 0.0

    def seconds_waited_in_all(self) -> float:
        """The length of all waits that have ended; what several threads waited at once counts once."""
        with self._lock:
            return self._waited

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        now = time.monotonic()
        with self._lock:
            self.retries += 1
            if not self._waiting_since:
                self._busy_since = state.start_time
            self._waiting_since.setdefault(threading.get_ident(), state.start_time)
            due = now - self._last_logged >= LOG_EVERY
            if due:
                self._last_logged, self._is_told = now, True
        if due:
            seconds = now - state.start_time
            logger.warning("waiting for %.0f s: %s", seconds, error, extra={"action": "waiting", "seconds": seconds})

    def _forget(self) -> None:
        with self._lock:
            was_waiting = self._waiting_since.pop(threading.get_ident(), None) is not None
            if not was_waiting or self._waiting_since:
                return
            seconds = time.monotonic() - self._busy_since
            self._waited += seconds
            told, self._is_told = self._is_told, False
        if told:
            logger.info("went on after %.1f s of waiting", seconds, extra={"action": "resumed", "seconds": seconds})


def _delay(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked: float | None = error.retry_after if isinstance(error, RetryLater) else None
    if asked is not None:  # not before the time, and whatever the other side says
        return min(max(asked, SHORTEST_ASKED), LONGEST_ASKED) * random.uniform(1.0, 1.5)  # noqa: S311
    bound: float = min(LONGEST_DELAY, 0.1 * 2.0 ** min(state.attempt_number, 10))
    return bound * random.uniform(0.5, 1.0)  # noqa: S311


def asked_seconds(headers: Mapping[str, str]) -> float | None:
    """What either form of the header Retry-After asks for (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
