"""What the job tells Flink's metrics about each micro-batch.

PyFlink sends a function's metrics at the end of a bundle only: nothing here changes while a call waits.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from embedstream.ingest import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyflink.metrics import MetricGroup

    from embedstream.ingest import Outcome
    from embedstream.migrate.following import Following
    from embedstream.retry import Patience

Milliseconds = npt.NDArray[np.int64]

KINDS: tuple[Kind, ...] = get_args(Kind)
BOUNDS_MS = (50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000)
PERCENTILES = (50, 95, 99)
WINDOW = 4096
_SEARCHABLE: frozenset[Kind] = frozenset({"stored", "deleted", "unchanged"})


class Window:
    """The latest `WINDOW` values."""

    def __init__(self) -> None:
        self._ring = np.zeros(WINDOW, np.int64)
        self._seen = 0

    def add(self, values: Milliseconds) -> None:
        values = values[-WINDOW:]
        self._ring[(np.arange(len(values)) + self._seen) % WINDOW] = values
        self._seen += len(values)

    def percentile(self, percent: int) -> int:
        """0 where there is no value yet."""
        return int(np.percentile(self._ring[: self._seen], percent)) if self._seen else 0


class JobMetrics:
    """Registers the metrics of docs/reference/metrics.md in a group, and counts batches into them."""

    def __init__(self, group: MetricGroup, patience: Patience) -> None:
        self._patience = patience
        self._totals: Counter[str] = Counter()
        names = [
            *KINDS, "exploded", "embedded_texts", "embed_calls_saved", "retries", "waited_ms",
            "latency_count", "latency_sum_ms", *(f"latency_le_{bound}ms" for bound in BOUNDS_MS),
        ]  # fmt: skip
        self._counters: dict[str, Any] = {name: group.counter(name) for name in names}
        self._window = Window()
        for percent in PERCENTILES:
            group.gauge(f"latency_p{percent}_ms", lambda percent=percent: self._window.percentile(percent))

    def count(self, ingest: Following, outcomes: Sequence[Outcome], recorded: Milliseconds, now_ms: int) -> None:
        """Add a batch: its outcomes, and the ages that its records had when they were committed."""
        kinds = [item.kind for outcome in outcomes for item in outcome.items.values() or (outcome,)]
        for kind, number in Counter(kinds).items():
            self._counters[kind].inc(number)
        self._counters["exploded"].inc(len(kinds) - len(outcomes))
        is_searchable = np.array([outcome.kind in _SEARCHABLE for outcome in outcomes], bool)
        self._count_latencies(np.maximum(now_ms - recorded[is_searchable], 0))
        self._rise("embedded_texts", ingest.texts_embedded)
        self._rise("embed_calls_saved", ingest.texts_known)
        self._rise("retries", self._patience.retries)
        self._rise("waited_ms", int(self._patience.seconds_waited_in_all() * 1000))

    def _count_latencies(self, latencies: Milliseconds) -> None:
        self._window.add(latencies)
        self._counters["latency_count"].inc(len(latencies))
        self._counters["latency_sum_ms"].inc(int(latencies.sum()))
        for bound in BOUNDS_MS:
            self._counters[f"latency_le_{bound}ms"].inc(int((latencies <= bound).sum()))

    def _rise(self, name: str, total: int) -> None:
        self._counters[name].inc(total - self._totals[name])
        self._totals[name] = total
