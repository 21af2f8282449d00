"""The service behind its HTTP routes: an engine that is loaded, used, and drained."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from embedstream.errors import RetryLater
from embedstream.service.batching import Batcher, Draining
from embedstream.service.engine.progress import Progress
from embedstream.service.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.service.batching import Embedded, Pending
    from embedstream.service.engine.protocol import Engine, EngineFacts
    from embedstream.service.engine.tokens import Text

Status = Literal["loading", "ready", "draining"]


class Loading(RetryLater):
    """The model is not loaded yet."""


class Embedder:
    """`loading` until it is started with an engine, then `ready`, and `draining` from the call of `drain`.

    `requests` is how many may wait for vectors at a time; None stands for as many as there may be texts.
    """

    def __init__(self, *, queue_texts: int, requests: int | None = None) -> None:
        self.status: Status = "loading"
        self.progress = Progress()
        self.requests = requests or queue_texts
        self.metrics = Metrics(lambda: self.queue_length)
        self.started = 0
        """When the engine came, in epoch seconds."""
        self._queue_texts = queue_texts
        self._engine: Engine | None = None
        self._batcher: Batcher | None = None

    def start(self, engine: Engine) -> None:
        """Be ready, once the engine's workers are."""
        self._batcher = Batcher(
            engine, queue_texts=self._queue_texts, requests=self.requests, on_batch=self.metrics.count_batch
        )
        self.started = int(time.time())
        self._engine = engine
        if self.status == "loading":
            self.status = "ready"

    @property
    def engine(self) -> Engine:
        """Raises Loading."""
        if self._engine is None:
            raise Loading(str(self.progress), 1.0)
        return self._engine

    @property
    def facts(self) -> EngineFacts:
        """Raises Loading."""
        return self.engine.facts

    @property
    def queue_length(self) -> int:
        return self._batcher.queue_length if self._batcher else 0

    def check_ready(self) -> None:
        """Raises Loading or Draining."""
        if self.status == "draining":
            raise Draining("the service is about to end", 1.0)
        if self.status == "loading":
            raise Loading(str(self.progress), 1.0)

    def submit(self, texts: Sequence[Text]) -> Pending:
        """Accept texts, for whose vectors nobody waits yet; raises QueueFull, Draining or Loading."""
        self.check_ready()
        if self._batcher is None:
            raise Loading(str(self.progress), 1.0)
        return self._batcher.submit(texts)

    def result(self, pending: Pending) -> Embedded:
        """Wait for the vectors; raises Draining or EngineFailed."""
        embedded = pending.result()
        self.metrics.count_texts(embedded, self.facts.max_tokens)
        return embedded

    def drain(self, seconds: float) -> bool:
        """See `Batcher.drain`."""
        self.status = "draining"
        return self._batcher.drain(seconds) if self._batcher else True
