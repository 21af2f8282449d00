from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from embedstream.ingest import Outcome
from embedstream.job.metrics import WINDOW, JobMetrics, Window
from embedstream.retry import Patience


class Group:
    """Flink's metric group, as far as it is used."""

    def __init__(self):
        self.counts = Counter()
        self.gauges = {}

    def counter(self, name):
        def inc(number):
            assert type(number) is int
            assert number >= 0
            self.counts[name] += number

        self.counts[name] = 0
        return SimpleNamespace(inc=inc)

    def gauge(self, name, read):
        self.gauges[name] = read


@pytest.fixture
def group():
    return Group()


@pytest.fixture
def metrics(group):
    return JobMetrics(group, Patience())


def count(metrics, ages, kinds=("stored",), embedded=0, known=0):
    recorded = np.array([1_000_000 - age for age in ages], np.int64)
    outcomes = [Outcome(kind) for kind in kinds * (len(ages) // len(kinds))]
    metrics.count(SimpleNamespace(texts_embedded=embedded, texts_known=known), outcomes, recorded, 1_000_000)


def test_outcomes_and_latencies(metrics, group):
    count(
        metrics,
        [10, 90, 300, 20_000, 70_000, 5],
        ("stored", "unchanged", "superseded", "deleted", "stored", "rejected"),
    )
    assert {name: group.counts[name] for name in ("stored", "unchanged", "superseded", "deleted", "rejected")} == {
        "stored": 2, "unchanged": 1, "superseded": 1, "deleted": 1, "rejected": 1,
    }  # fmt: skip
    found = {name: number for name, number in group.counts.items() if name.startswith("latency")}
    assert found == {
        "latency_count": 4, "latency_sum_ms": 90_100, "latency_le_50ms": 1, "latency_le_100ms": 2,
        "latency_le_250ms": 2, "latency_le_500ms": 2, "latency_le_1000ms": 2, "latency_le_2500ms": 2,
        "latency_le_5000ms": 2, "latency_le_10000ms": 2, "latency_le_60000ms": 3,
    }  # fmt: skip


def test_totals_are_counted_once(metrics, group):
    count(metrics, [1], embedded=3, known=1)
    count(metrics, [1], embedded=5, known=1)
    assert (group.counts["embedded_texts"], group.counts["embed_calls_saved"]) == (5, 1)


def test_percentiles(metrics, group):
    assert group.gauges["latency_p99_ms"]() == 0
    count(metrics, list(range(1, 101)))
    assert [group.gauges[f"latency_p{percent}_ms"]() for percent in (50, 95, 99)] == [50, 95, 99]


def test_a_clock_that_is_behind_gives_no_negative_latency(metrics, group):
    count(metrics, [-500])
    assert group.counts["latency_sum_ms"] == 0


def test_a_batch_without_anything_searchable(metrics, group):
    count(metrics, [1, 2], ("rejected",))
    assert group.counts["latency_count"] == 0
    assert group.gauges["latency_p50_ms"]() == 0


@pytest.mark.parametrize("size", [1, 7, 512, WINDOW, 3 * WINDOW])
def test_the_window_holds_the_latest_values(size):
    window = Window()
    for start in range(0, 20 * WINDOW, size):
        window.add(np.arange(start, start + size))
    latest = np.arange(start + size - WINDOW, start + size)
    assert window.percentile(0) == latest[0]
    assert window.percentile(100) == latest[-1]
