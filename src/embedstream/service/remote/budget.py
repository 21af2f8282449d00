"""How fast a remote server may be asked: what the operator allows, and what the server's answers tell."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from embedstream.service.remote.client import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MINUTE = 60.0
_PACED_SECONDS = 1.0
_PACK_SECONDS = 2.0
_LEAST_SHARE, _CUT, _GAIN_A_SECOND = 0.1, 0.7, 0.01
_JITTER = 1.25
_FREER, _LARGER = 1.05, 1.02
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class _Bucket:
    """So much a second, None while nobody has said how much.

    A limit that the operator set is kept second by second. One that the server tells is a minute's worth at first,
    like its own, and what is left of it is what the server says; after a 429 it is kept by the second, too, for a
    while. What is more than a minute's worth leaves a debt, which is waited for afterwards.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._set = per_minute / _MINUTE if per_minute else None
        self.rate = self._set
        self._is_told = False
        self._seconds = _PACED_SECONDS
        self._level = self._most(self._set) if self._set else 0.0
        self._at = clock()

    @property
    def per_minute(self) -> float | None:
        return None if self.rate is None else round(self.rate * _MINUTE, 3)

    def seconds_until(self, amount: float, share: float) -> float:
        if self.rate is None:
            return 0.0
        rate = self.rate * share
        now = self._clock()
        # The server lets nothing through that is not there as a whole.
        wanted = min(amount, rate * _MINUTE)
        self._level = min(max(self._most(rate), wanted), self._level + rate * (now - self._at))
        self._at = now
        return max(0.0, (wanted - self._level) / rate)

    def take(self, amount: float) -> None:
        self._level -= amount

    def refused(self) -> None:
        self._level = min(self._level, 0.0)
        self._seconds = _PACED_SECONDS

    def learn(self, headers: Mapping[str, str], kind: str, under_way: float) -> None:
        """Take over what the server says. What is under way may be in that or not: it is taken as if it were not."""
        limit, remaining = (_number(headers.get(f"x-ratelimit-{name}-{kind}")) for name in ("limit", "remaining"))
        if not limit or remaining is None:
            return
        told = _rate(limit, remaining, seconds_of(headers.get(f"x-ratelimit-reset-{kind}", "")))
        is_first, self._is_told = not self._is_told, self._set is None or told <= self._set
        self.rate = told if self._is_told else self._set
        left = remaining - under_way
        if not self._is_told:
            self._level = min(self._level, left)
        elif is_first:
            self._seconds, self._level = _MINUTE, left
        else:
            self._seconds = min(_MINUTE, self._seconds * _FREER)
            # Answers overtake each other: what is more than we thought is believed by and by.
            self._level = min(left, (self._level + left) / 2)

    def _most(self, rate: float) -> float:
        return max(1.0, rate * self._seconds)


class Budget:
    """One for all that is sent to a server. Not safe for threads: its owner has a lock.

    Rates are those that are set, or those of the x-ratelimit headers, whichever are lower. A 429 stops everything for
    as long as the server says, and makes the share of the rate smaller, and the number of requests at a time, which
    both grow again slowly: so that several clients of one account come to terms.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        concurrency: int,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._requests = _Bucket(requests_per_minute, clock)
        self._tokens = _Bucket(tokens_per_minute, clock)
        self._concurrency = concurrency
        self._window = 1.0
        self._threshold = float(concurrency)
        self.share = 1.0
        self._pack_share = 1.0
        self._grown_at = clock()
        self._paused_until = -math.inf
        self._pauses = 0
        self._under_way: list[float] = []

    @property
    def requests_per_minute(self) -> float | None:
        return self._requests.per_minute

    @property
    def tokens_per_minute(self) -> float | None:
        return self._tokens.per_minute

    @property
    def tokens_at_a_time(self) -> float:
        """As many as make a request worth its place in the rate of requests, and keep no other one waiting for long."""
        tokens, requests = self._tokens.rate, self._requests.rate
        if tokens is None:
            return math.inf
        return tokens * max(_PACK_SECONDS * self._pack_share, 2 / requests if requests else 0.0)

    def seconds_until(self, tokens: float) -> float:
        """How long to wait with a request of so many tokens; infinite where another must end first."""
        if len(self._under_way) >= int(self._window):
            return math.inf
        return max(
            self._paused_until - self._clock(),
            self._requests.seconds_until(1, self.share),
            self._tokens.seconds_until(tokens, self.share),
            0.0,
        )

    def begin(self, tokens: float) -> None:
        self._under_way.append(tokens)
        self._requests.take(1)
        self._tokens.take(tokens)

    def end(self, tokens: float) -> None:
        """A request is over, however it ended."""
        self._under_way.remove(tokens)

    def succeeded(self, headers: Mapping[str, str]) -> None:
        """Told after `end`."""
        self._pauses = 0
        self._requests.learn(headers, "requests", len(self._under_way))
        self._tokens.learn(headers, "tokens", sum(self._under_way))
        now = self._clock()
        self.share = min(1.0, self.share + _GAIN_A_SECOND * (now - self._grown_at))
        self._grown_at = now
        self._pack_share = min(1.0, self._pack_share * _LARGER)
        gain = 1.0 if self._window < self._threshold else 1.0 / self._window
        self._window = min(float(self._concurrency), self._window + gain)

    def refused(self, wait: float | None, headers: Mapping[str, str]) -> float:
        """A 429 came: nothing is sent until its time is over, which is returned. Those of requests that were sent
        before the pause began count as one. Told after `end`.
        """
        now = self._clock()
        self._requests.learn(headers, "requests", len(self._under_way))
        self._tokens.learn(headers, "tokens", sum(self._under_way))
        if now >= self._paused_until:
            # A server that counts by the second lets no request through that is more than a second's worth.
            self._pack_share = max(_LEAST_SHARE, self._pack_share / 2)
            self._grown_at = now
            self.share = max(_LEAST_SHARE, self.share * _CUT)
            self._threshold = max(1.0, self._window / 2)
            self._window = self._threshold
            self._pauses += 1
        seconds = wait if wait is not None else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (self._pauses - 1))
        # Other clients of the account were told the same.
        seconds *= random.uniform(1.0, _JITTER)  # noqa: S311
        self._paused_until = max(self._paused_until, now + seconds)
        self._requests.refused()
        self._tokens.refused()
        return seconds


def _number(text: str | None) -> float | None:
    """Azure says -1 for what it does not tell."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _rate(limit: float, remaining: float, reset: float | None) -> float:
    """Per second: a limit is one of a minute, unless the time until it is whole again says that it is of a day."""
    a_minute = limit / 60
    used = limit - remaining
    if reset and used >= 1:
        refill = used / reset
        if refill < a_minute / 2:
            return max(refill, limit / 86_400)
    return a_minute
