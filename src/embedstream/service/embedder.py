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

    from embedstream.service.batching import Dispatcher, Embedded, Pending
    from embedstream.service.engine.protocol import Engine, EngineFacts, Source
    from embedstream.service.engine.tokens import Text
    from embedstream.service.remote.opening import Opened

Status = Literal["loading", "ready", "standstill", "draining"]


class Loading(RetryLater):
    """The model is not loaded yet."""


class Embedder:
    """`loading` until it is started with an engine, then `ready`, and `draining` from the call of `drain`.

    `requests` is how many may wait for vectors at a time; None stands for as many as there may be texts.
    """

    def __init__(self, *, queue_texts: int, requests: int | None = None) -> None:
        self.progress = Progress()
        self.requests = requests or queue_texts
        self.metrics = Metrics(lambda: self.queue_length)
        self.started = 0
        """When the engine came, in epoch seconds."""
        self.why_loading: str | None = None
        """What another server is waited for; None where `progress` says it."""
        self.remote: Opened | None = None
        """Where another server embeds."""
        self._queue_texts = queue_texts
        self._engine: Source | None = None
        self._dispatcher: Dispatcher | None = None
        self._drains = False

    def start(self, engine: Engine) -> None:
        """Be ready, once the engine's workers are."""
        batcher = Batcher(
            engine, queue_texts=self._queue_texts, requests=self.requests, on_batch=self.metrics.count_batch
        )
        self.attach(engine, batcher)

    def start_remote(self, opened: Opened) -> None:
        """Be ready with another server's vectors."""
        self.remote = opened
        self.attach(opened.gateway, opened.gateway)

    def attach(self, source: Source, dispatcher: Dispatcher) -> None:
        """Be ready with what shares a source among requests."""
        self._dispatcher = dispatcher
        self.started = int(time.time())
        self._engine = source

    @property
    def status(self) -> Status:
        if self._drains:
            return "draining"
        if self._dispatcher is None or self._engine is None:
            return "loading"
        return "standstill" if self._dispatcher.trouble else "ready"

    @property
    def engine(self) -> Source:
        """Raises Loading."""
        if self._engine is None:
            raise self._loading()
        return self._engine

    @property
    def facts(self) -> EngineFacts:
        """Raises Loading."""
        return self.engine.facts

    @property
    def queue_length(self) -> int:
        return self._dispatcher.queue_length if self._dispatcher else 0

    def check_ready(self) -> None:
        """Raises Loading, Draining, or what the dispatcher waits for."""
        self._ready()

    def _ready(self) -> Dispatcher:
        if self._drains:
            raise Draining("the service is about to end", 1.0)
        if self._dispatcher is None or self._engine is None:
            raise self._loading()
        if trouble := self._dispatcher.trouble:
            raise trouble
        return self._dispatcher

    def _loading(self) -> Loading:
        return Loading(self.why_loading or str(self.progress), 1.0)

    def submit(self, texts: Sequence[Text]) -> Pending:
        """Accept texts, for whose vectors nobody waits yet; raises what `check_ready` does, and QueueFull."""
        return self._ready().submit(texts)

    def result(self, pending: Pending) -> Embedded:
        """Wait for the vectors; raises Draining or EngineFailed."""
        embedded = pending.result()
        self.metrics.count_texts(embedded, self.facts.max_tokens)
        return embedded

    def drain(self, seconds: float) -> bool:
        """See `Batcher.drain`."""
        self._drains = True
        return self._dispatcher.drain(seconds) if self._dispatcher else True
