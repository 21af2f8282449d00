"""What the service counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.registry import Collector

    from embedstream.service.batching import Embedded

_LATEST_BATCHES = 64
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class BatchFacts(NamedTuple):
    """One run of the engine; `waited` is the wait of its first text, in seconds."""

    tokens: int
    padded_tokens: int
    waited: float
    seconds: float


def is_truncated(count: int | None, max_tokens: int) -> bool:
    """Who does not count a text's tokens does not cut it either."""
    return count is not None and count > max_tokens


class Metrics:
    """The counters of one service, in a registry of their own; threads may share it."""

    def __init__(self, queue_length: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered", "path", "status")
        self._refused = self._counter("refused", "Requests refused, by the code of the error", "code")
        self._texts = self._counter("texts", "Texts embedded")
        self._truncated = self._counter("truncated_texts", "Texts of which the model saw the beginning only")
        self._unknown = self._counter("unknown_tokens", "Tokens that the model's vocabulary has no piece for")
        self._tokens = self._counter("tokens", "Tokens computed")
        self._padded = self._counter("padded_tokens", "Tokens computed, with those that fill a batch up")
        self._waits = self._histogram("wait_seconds", "Wait of a batch's first text for a free worker")
        self._runs = self._histogram("inference_seconds", "Time in which the engine computed a batch")
        self._latest: deque[tuple[int, int]] = deque(maxlen=_LATEST_BATCHES)
        efficiency = self._gauge("padding_efficiency", "Tokens of texts / tokens computed, over the latest 64 batches")
        efficiency.set_function(self._padding_efficiency)
        self._gauge("queue_texts", "Texts accepted and not yet done").set_function(queue_length)
        ProcessCollector(registry=self._registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"embedding_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"embedding_{name}", meaning, registry=self._registry)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(f"embedding_{name}", meaning, registry=self._registry, buckets=_SECONDS)

    def count_request(self, path: str, status: int, code: str | None) -> None:
        self._requests.labels(path, status).inc()
        if code:
            self._refused.labels(code).inc()

    def count_texts(self, embedded: Embedded, max_tokens: int) -> None:
        self._texts.inc(len(embedded.token_counts))
        self._truncated.inc(sum(is_truncated(count, max_tokens) for count in embedded.token_counts))
        self._unknown.inc(sum(embedded.unknown_tokens))

    def count_batch(self, batch: BatchFacts) -> None:
        self._tokens.inc(batch.tokens)
        self._padded.inc(batch.padded_tokens)
        self._latest.append((batch.tokens, batch.padded_tokens))
        self._waits.observe(batch.waited)
        self._runs.observe(batch.seconds)

    def _padding_efficiency(self) -> float:
        tokens, padded = (sum(column) for column in zip((0, 0), *list(self._latest), strict=True))
        return tokens / padded if padded else 1.0

    def add(self, collector: Collector) -> None:
        """Show what another part counts as well."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """All of them in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)
