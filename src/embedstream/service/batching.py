"""Puts the texts of all requests into micro-batches of like length.

An idle worker runs at once whatever waits; while all are busy, texts gather in a bucket for each padded length. A free
worker takes the bucket whose first text has waited longest. So a text waits for its turn only, and a batch computes
next to no padding.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np

from embedstream.errors import EmbedstreamError, RetryLater
from embedstream.service.engine.tokens import padded_length
from embedstream.service.metrics import BatchFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embedstream.service.engine.protocol import Engine, Vectors
    from embedstream.service.engine.tokens import Ids, Text, Tokens, Unseen

    Infer = Callable[[Sequence[Ids]], Vectors]

logger = logging.getLogger(__name__)

_CHUNK_TEXTS = 64
_HUGE_CHARACTERS = 65_536
_MEASURED_BATCHES = 64
_LONGEST_RETRY_SECONDS = 60


class QueueFull(RetryLater):
    """As many texts or requests wait as may."""


class Draining(RetryLater):
    """The service is about to end, and takes nothing new."""


class EngineFailed(EmbedstreamError):
    """The engine has no vector for the text at `index`."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the engine failed on text {index}")
        self.index = index


class NothingToEmbed(EmbedstreamError):
    """The model sees nothing of the text at `index`, so that its vector would be that of all such texts."""

    _MESSAGES: ClassVar[dict[Unseen, str]] = {
        "invisible": "the model sees nothing of the text: it has nothing but invisible characters",
        "unknown": "the model sees nothing of the text: its vocabulary has no piece for any of its words or signs",
    }

    def __init__(self, index: int, unseen: Unseen) -> None:
        super().__init__(self._MESSAGES[unseen])
        self.index = index
        self.unseen = unseen


class Embedded(NamedTuple):
    """Vectors float32 (texts, dimension), and each text's number of tokens before truncation (None: not known), with
    those among them that the model's vocabulary has no piece for.
    """

    vectors: Vectors
    token_counts: Sequence[int | None]
    unknown_tokens: list[int]


class Pending:
    """Texts that were accepted; whoever waits for their vectors needs no thread for it."""

    def __init__(self, texts: int, dimension: int) -> None:
        self.vectors = np.empty((texts, dimension), np.float32)
        self.token_counts: list[int | None] = []
        self.unknown_tokens: list[int] = []
        self.left = texts
        self.error: EmbedstreamError | None = None
        self.settled: Future[None] = Future()

    def done_within(self, seconds: float) -> bool:
        """Wait at most so long; tells whether all is done."""
        try:
            self.settled.result(seconds)
        except TimeoutError:
            return False
        return True

    def result(self) -> Embedded:
        """Wait for the vectors; raises the error that the request ended with."""
        self.settled.result()
        if self.error:
            raise self.error
        return Embedded(self.vectors, self.token_counts, self.unknown_tokens)


class Dispatcher(Protocol):
    """Shares a source of vectors among requests."""

    @property
    def queue_length(self) -> int:
        """Texts accepted and not yet done."""

    @property
    def trouble(self) -> RetryLater | None:
        """What keeps all texts from being embedded, whatever they are."""

    def submit(self, texts: Sequence[Text]) -> Pending: ...

    def drain(self, seconds: float) -> bool: ...


class _Item(NamedTuple):
    number: int
    request: Pending
    row: int
    ids: Ids
    since: float


def _nobody(_batch: BatchFacts) -> None:
    pass


class Batcher:
    """Shares an engine among requests; ready to use once made.

    `queue_texts` is the number of texts that may be accepted and not yet done, in at most `requests` requests (None: in
    as many as there are texts); `on_batch` is told of each run.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        queue_texts: int,
        requests: int | None = None,
        batch_tokens: int | None = None,
        on_batch: Callable[[BatchFacts], None] = _nobody,
    ) -> None:
        self._engine = engine
        self._on_batch = on_batch
        self._queue_texts = queue_texts
        self._most_requests = requests or queue_texts
        self._batch_tokens = batch_tokens or engine.facts.batch_tokens
        self._changed = threading.Condition()
        self._buckets: dict[int, deque[_Item]] = {}
        self._requests: set[Pending] = set()
        self._accepted = 0
        self._number = 0
        self._promised = 0.0
        self._draining = False
        self._ended = False
        self._measured: deque[tuple[int, float]] = deque(maxlen=_MEASURED_BATCHES)
        self._one_huge = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, args=(engine.open_worker(),), name=f"worker-{number}", daemon=True)
            for number in range(engine.workers)
        ]
        for thread in self._threads:
            thread.start()

    trouble = None

    @property
    def queue_length(self) -> int:
        """Texts accepted and not yet done."""
        return self._accepted

    def embed(self, texts: Sequence[Text]) -> Embedded:
        """Wait for the vectors of texts; raises what `submit` and `Pending.result` do."""
        return self.submit(texts).result()

    def submit(self, texts: Sequence[Text]) -> Pending:
        """Accept texts, of which there must be no more than `queue_texts`.

        Raises QueueFull or Draining, with the seconds to wait where they are known, and NothingToEmbed.
        """
        request = self._admit(len(texts))
        try:
            for chunk in _chunks(texts):
                if request.settled.done():  # the service ends
                    break
                self._submit(request, texts, chunk)
        except BaseException:
            self._forget(request)
            raise
        return request

    def drain(self, seconds: float) -> bool:
        """Take nothing new, finish what was accepted, then end; what takes longer than `seconds` fails as Draining.

        Tells whether everything was finished.
        """
        with self._changed:
            self._draining = True
            finished = self._changed.wait_for(lambda: not self._requests, seconds)
            self._ended = True
            for request in list(self._requests):
                request.error = Draining("the service ended before the texts' turn came")
                self._forget(request)
                request.settled.set_result(None)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(seconds if finished else 0)
        return finished

    def _admit(self, texts: int) -> Pending:
        request = Pending(texts, self._engine.facts.embedding_dimension)
        with self._changed:
            if self._draining:
                raise Draining("the service takes no new texts: it is about to end", 1.0)
            excess = self._accepted + texts - self._queue_texts
            if excess > 0:
                raise QueueFull(f"{self._accepted} texts wait already", self._room_after(excess, texts))
            if len(self._requests) >= self._most_requests:
                excess = self._accepted // self._most_requests
                raise QueueFull(f"{len(self._requests)} requests wait already", self._room_after(excess, texts))
            self._accepted += texts
            self._requests.add(request)
        if not texts:
            self._forget(request)
            request.settled.set_result(None)
        return request

    def _room_after(self, excess: int, texts: int) -> float:
        """In how many seconds, from 1 to 60, to come again with texts for which `excess` others must be done first.

        Who was told so before comes first, or all would come at once; but no later than all that wait now are done.
        """
        now = time.monotonic()
        free = max(now + self._seconds_for(excess), self._promised + self._seconds_for(texts))
        self._promised = min(free, now + self._seconds_for(self._queue_texts), now + _LONGEST_RETRY_SECONDS)
        return max(1, math.ceil(self._promised - now))

    def _seconds_for(self, texts: int) -> float:
        """How long so many texts take at the rate of the latest batches."""
        done, seconds = (sum(column) for column in zip(*self._measured, strict=True)) if self._measured else (0, 0.0)
        return texts * seconds / done / self._engine.workers if done else 0.0

    def _submit(self, request: Pending, texts: Sequence[Text], chunk: range) -> None:
        tokens = self._tokenize([texts[index] for index in chunk])
        for index, one in zip(chunk, tokens, strict=True):
            if one.unseen:
                raise NothingToEmbed(index, one.unseen)
            request.token_counts.append(one.total)
            request.unknown_tokens.append(one.unknown)
        since = time.perf_counter()
        with self._changed:
            for index, one in zip(chunk, tokens, strict=True):
                bucket = self._buckets.setdefault(padded_length(len(one.ids)), deque())
                bucket.append(_Item(self._number, request, index, one.ids, since))
                self._number += 1
            self._changed.notify_all()

    def _tokenize(self, texts: Sequence[Text]) -> list[Tokens]:
        if len(texts[0]) <= _HUGE_CHARACTERS:
            return self._engine.tokenize(texts)
        # It may take a second of a CPU and 50 times its size in memory.
        with self._one_huge:
            return self._engine.tokenize(texts)

    def _forget(self, request: Pending) -> None:
        with self._changed:
            self._accepted -= request.left
            request.left = 0
            self._requests.discard(request)
            self._changed.notify_all()

    def _work(self, infer: Infer) -> None:
        while batch := self._take():
            started = time.perf_counter()
            self._run(infer, batch)
            seconds = time.perf_counter() - started
            self._on_batch(self._facts_of(batch, started - batch[0].since, seconds))
            self._settle(batch, seconds)

    def _facts_of(self, batch: Sequence[_Item], waited: float, seconds: float) -> BatchFacts:
        lengths = [len(item.ids) for item in batch]
        longest = min(padded_length(max(lengths)), self._engine.facts.max_tokens)
        return BatchFacts(sum(lengths), longest * len(batch), waited, seconds)

    def _take(self) -> list[_Item]:
        """Wait for a batch; an empty one means the end."""
        with self._changed:
            batch: list[_Item] = []
            while not batch:
                self._changed.wait_for(lambda: self._buckets or self._ended)
                if self._ended:
                    return []
                length, bucket = min(self._buckets.items(), key=lambda entry: entry[1][0].number)
                fitting = max(1, self._batch_tokens // length)
                batch = [bucket.popleft() for _ in range(min(fitting, len(bucket)))]
                if not bucket:
                    del self._buckets[length]
                # Of a request that was refused after all, nobody waits for the rest.
                batch = [item for item in batch if item.request.left]
            return batch

    def _run(self, infer: Infer, batch: Sequence[_Item]) -> None:
        try:
            vectors = infer([item.ids for item in batch])
            if not np.isfinite(vectors).all():
                raise ArithmeticError("a vector is not finite")  # noqa: TRY301 - as if the engine had raised it
        except Exception:
            if len(batch) == 1:
                logger.exception("the engine failed on a text of %d tokens", len(batch[0].ids))
                batch[0].request.error = EngineFailed(batch[0].row)
                return
            for item in batch:
                self._run(infer, [item])
            return
        for item, vector in zip(batch, vectors, strict=True):
            item.request.vectors[item.row] = vector

    def _settle(self, batch: Sequence[_Item], seconds: float) -> None:
        with self._changed:
            self._measured.append((len(batch), seconds))
            for request in (item.request for item in batch):
                if request.left:
                    request.left -= 1
                    self._accepted -= 1
                    if not request.left:
                        self._forget(request)
                        request.settled.set_result(None)


def _chunks(texts: Sequence[Text]) -> Iterator[range]:
    """Runs of texts to tokenise at a time, a huge text by itself, so that workers can begin with the first."""
    start = 0
    for index, text in enumerate(texts):
        huge = len(text) > _HUGE_CHARACTERS
        if index > start and (huge or index - start == _CHUNK_TEXTS):
            yield range(start, index)
            start = index
        if huge:
            yield range(index, index + 1)
            start = index + 1
    if start < len(texts):
        yield range(start, len(texts))
