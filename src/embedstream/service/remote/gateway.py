"""Embeds by a remote server: the texts of all requests share its limits, and whatever it answers ends in a vector, in
the refusal of one text, or in one sentence that says what everybody waits for.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstream.service.batching import Draining
from embedstream.service.metrics import BatchFacts
from embedstream.service.remote.errors import Failed, RemoteError, Standstill, TextRefused
from embedstream.service.remote.judge import FIRST_RETRY, Judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.batching import Pending
    from embedstream.service.engine.protocol import EngineFacts, Vectors
    from embedstream.service.engine.tokens import Text
    from embedstream.service.remote.budget import Budget
    from embedstream.service.remote.client import Answer, Remote
    from embedstream.service.remote.errors import Code
    from embedstream.service.remote.packs import Item
    from embedstream.service.remote.texts import Texts
    from embedstream.service.remote.usage import Usage
    from embedstream.service.remote.waiting import Queue
    from embedstream.space import Tokenizer

logger = logging.getLogger(__name__)

_NORM_TOLERANCE = 1e-3


class Limits(NamedTuple):
    """`tokens_a_day` is None where there is no limit."""

    concurrency: int
    tokens_a_day: int | None


class _Standing(NamedTuple):
    code: Code
    message: str
    until: float


class Gateway:
    """Shares a remote server among requests; ready to use once made.

    Some threads send. What fails is blamed on one of its texts only where the server embeds a harmless one right
    afterwards; else everything stands still: who waits is told so, nobody asks the server but `Watch`, now and then,
    and what was accepted is asked for again by who sent it.
    """

    vocabulary = 0
    """Ids of tokens are not taken."""

    def __init__(
        self,
        remote: Remote,
        facts: EngineFacts,
        texts: Texts,
        queue: Queue,
        *,
        budget: Budget,
        usage: Usage,
        limits: Limits,
        on_batch: Callable[[BatchFacts], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.facts = facts
        self.workers = limits.concurrency
        self.budget = budget
        self.usage = usage
        self.changed = threading.Condition()
        self.latest_success = clock()
        self._remote = remote
        self._texts = texts
        self.queue = queue
        self._limits = limits
        self._on_batch = on_batch
        self._clock = clock
        self._judge = Judge(self, remote.url)
        self._standing: _Standing | None = None
        self._throttled_since: float | None = None
        self._draining = False
        self.ended = False
        self._threads = [
            threading.Thread(target=self._work, name=f"sender-{number}", daemon=True)
            for number in range(limits.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self._texts.described

    @property
    def queue_length(self) -> int:
        return self.queue.accepted

    @property
    def trouble(self) -> Standstill | None:
        """What everybody waits for."""
        standing = self._standing
        if standing is None:
            return None
        return Standstill(standing.code, standing.message, max(1.0, standing.until - self._clock()))

    @property
    def retries_at(self) -> float | None:
        """When to look whether the standstill is over; None while there is none."""
        return self._standing.until if self._standing else None

    def submit(self, texts: Sequence[Text]) -> Pending:
        """Accept texts; raises Standstill, QueueFull or Draining."""
        with self.changed:
            self._check_open()
            request = self.queue.admit(len(texts))
        try:
            prepared = [self._texts.prepare(text) for text in texts if isinstance(text, str)]
        except BaseException:
            with self.changed:
                self.queue.finish(request)
            raise
        request.token_counts = [one.token_count for one in prepared]
        request.unknown_tokens = [0] * len(prepared)
        with self.changed:
            if request.left:
                self.queue.add(request, prepared)
                self.changed.notify_all()
        return request

    def drain(self, seconds: float) -> bool:
        """As `Batcher.drain`."""
        with self.changed:
            self._draining = True
            finished = self.changed.wait_for(lambda: self.queue.is_empty, seconds)
            self.ended = True
            self.queue.fail(lambda: Draining("the service ended before the texts' turn came"))
            self.changed.notify_all()
        for thread in self._threads:
            thread.join(seconds if finished else 0)
        self._remote.close()
        return finished

    def _check_open(self) -> None:
        if self._draining:
            raise Draining("the service takes no new texts: it is about to end", 1.0)
        if trouble := self.trouble:
            raise trouble

    def stand_still(self, code: Code, message: str, seconds: float) -> None:
        """Nothing is sent for so long, and not before `go_on`; what waits is told so."""
        with self.changed:
            if self._standing is None or self._standing.code != code:
                logger.error("standing still: %s", message, extra={"action": "standstill", "code": code})
            self._standing = _Standing(code, message, self._clock() + seconds)
            if code == "space_moved":
                self.queue.forget()
            self.queue.fail(lambda: Standstill(code, message, seconds))
            self.changed.notify_all()

    def go_on(self) -> None:
        with self.changed:
            if self._standing:
                logger.info("going on", extra={"action": "resumed", "code": self._standing.code})
            self._standing = None
            self.changed.notify_all()

    def ask(self, texts: Sequence[str], tokens: int) -> Answer:
        """One request out of turn, counted like all others; raises RemoteError."""
        with self.changed:
            self.budget.begin(tokens)
        return self._counted(texts, tokens)

    def _work(self) -> None:
        while pack := self._take():
            tokens, began = sum(item.tokens for item in pack), self._clock()
            waited = began - min(item.since for item in pack)
            try:
                answer = self._counted([item.sent for item in pack], tokens)
            except RemoteError as exc:
                self._judge(pack, exc, began)
            except Exception:
                logger.exception("a request to the remote server went wrong")
                self._judge(pack, Failed("the gateway failed; its log says more"), began)
            else:
                self._on_batch(BatchFacts(tokens, tokens, waited, self._clock() - began))
                self._settle(pack, answer, began)

    def _take(self) -> list[Item]:
        """Wait for the next request's texts; none mean the end."""
        with self.changed:
            while not self.ended:
                most = min(self.budget.tokens_at_a_time, self._left_today())
                pack = [] if self._standing else self.queue.first(most)
                tokens = sum(item.tokens for item in pack)
                if pack and tokens > self._left_today():
                    self._end_day(pack[0])
                    continue
                wait = self.budget.seconds_until(tokens) if pack else np.inf
                if wait <= 0:
                    self._note_throttling(ends=True)
                    self.queue.packs.take(pack)
                    self.budget.begin(tokens)
                    return pack
                if np.isfinite(wait):
                    self._note_throttling(ends=False)
                self.changed.wait(wait if np.isfinite(wait) else None)
        return []

    def _left_today(self) -> float:
        limit = self._limits.tokens_a_day
        return np.inf if limit is None else limit - self.usage.tokens_today

    def _end_day(self, first: Item) -> None:
        """The next text is more than what is left of the day; one that is more than a day has would never come."""
        limit = self._limits.tokens_a_day or 0
        if first.tokens > limit:
            message = f"the text has about {first.tokens} tokens, more than REMOTE_TOKENS_PER_DAY={limit}"
            self.queue.packs.take([first])
            self.queue.charge(first, lambda row: TextRefused(row, "text_too_long", message))
            return
        then = f"{self.usage.next_day():%F %R} UTC"
        message = f"REMOTE_TOKENS_PER_DAY={limit} leaves no room for more today: it goes on at {then}"
        self.stand_still("daily_limit", message, self.usage.seconds_until_next_day())

    def _note_throttling(self, *, ends: bool) -> None:
        if not ends:
            self._throttled_since = self._throttled_since or self._clock()
        elif self._throttled_since is not None:
            self.usage.waited += self._clock() - self._throttled_since
            self._throttled_since = None

    def _counted(self, texts: Sequence[str], tokens: int) -> Answer:
        """Send what was begun in the budget; raises RemoteError."""
        outcome, counted, headers = "failed", 0, None
        try:
            answer = self._remote.embed(texts)
            outcome, counted, headers = "ok", tokens if answer.tokens is None else answer.tokens, answer.headers
        except RemoteError as exc:
            outcome = type(exc).__name__.lower()
            raise
        finally:
            with self.changed:
                self.budget.end(tokens)
                self.usage.count(outcome, counted, *((len(texts), tokens) if headers is not None else (0, 0)))
                if headers is not None:
                    self.budget.succeeded(headers)
                self.changed.notify_all()
        return answer

    def _settle(self, pack: Sequence[Item], answer: Answer, began: float) -> None:
        if self.has_moved(answer.vectors):
            return
        unusable = set(answer.unusable)
        if self.facts.normalised:
            unusable |= set(np.flatnonzero(abs(np.linalg.norm(answer.vectors, axis=1) - 1) > _NORM_TOLERANCE).tolist())
        left = [item for row, item in enumerate(pack) if row in unusable]
        with self.changed:
            if not unusable:
                self.latest_success = self._clock()
            for row, item in enumerate(pack):
                if row not in unusable:
                    self.queue.settle(item, answer.vectors[row])
            if not left and self.queue.packs.passed(pack):
                packs = self.queue.packs
                logger.info(
                    "requests have at most %d texts and %d tokens from now on", packs.max_texts, packs.max_tokens
                )
            if len(pack) > 1:
                for item in left:
                    item.most = 1
                self.queue.put_back(left)
            self.changed.notify_all()
        if left and len(pack) == 1:
            self._judge(pack, Failed(f"{self._remote.url} gives a vector that is zero, not finite, or too long"), began)

    def has_moved(self, vectors: Vectors) -> bool:
        found, expected = vectors.shape[1], self.facts.embedding_dimension
        if found == expected:
            return False
        message = (
            f"{self._remote.url} gives vectors of {found} dimensions, and gave {expected} before: put its model back, "
            "or restart the service, and use another table"
        )
        self.stand_still("space_moved", message, FIRST_RETRY)
        return True
