"""`GET /metrics`: what the watchers saw last, the last audit, and the searches that were answered here.

What is not known has no sample: an alert on it would be about nothing, and a 0 would be a lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from flask import Blueprint, Response, current_app
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from embedstream.audit.report import KINDS, Report
from embedstream.index.state import State as IndexState
from embedstream.status.health import State, longest_age, longest_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from embedstream.console.parts import Parts, Pipeline
    from embedstream.console.watcher import Reading
    from embedstream.search.answer import Answer
    from embedstream.settings import Settings
    from embedstream.status.read import Status

    Sample = tuple[str, float | None]
    Family = GaugeMetricFamily | CounterMetricFamily

routes = Blueprint("metrics", __name__)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NEEDED = ("kafka", "database", "jobmanager")


@routes.get("/metrics")
def metrics() -> Response:
    own = cast("Metrics", current_app.extensions["metrics"])
    return Response(own.render(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Metrics:
    """The numbers of one console, in a registry of their own; threads may share it."""

    def __init__(self, parts: Parts) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Pipelines(parts))
        self._seconds = Histogram(
            "embedstream_search_seconds", "Time that a search took, without what it waited for",
            ("pipeline", "mode", "method"), registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        self._incomplete = Counter(
            "embedstream_search_incomplete", "Answers to which more rows may belong", ("pipeline",),
            registry=self._registry,
        )  # fmt: skip
        for name, pipeline in parts.pipelines.items():
            self._incomplete.labels(name)
            pipeline.counted = self.count_search

    def count_search(self, pipeline: str, mode: str, answer: Answer, seconds: float) -> None:
        """What was waited for by `wait_for` is the pipeline's time, not the search's."""
        waited = answer.took_ms.get("wait", 0.0) / 1000
        self._seconds.labels(pipeline, mode, answer.method).observe(max(0.0, seconds - waited))
        if not answer.complete:
            self._incomplete.labels(pipeline).inc()

    def render(self) -> bytes:
        """All of them in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)


class Audited(NamedTuple):
    """An audit that came to its end."""

    at: datetime
    report: Report


class Seen(NamedTuple):
    """What is known of a pipeline: the latest reading, and the last audit; None where there was none yet."""

    settings: Settings
    reading: Reading | None
    audited: Audited | None

    @property
    def status(self) -> Status | None:
        return self.reading.status if self.reading else None


class _Pipelines(Collector):
    """Asks nobody: what a part says is read by the watchers, however often this is scraped."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._audited: dict[str, Audited] = {}

    def collect(self) -> Iterator[Family]:
        seen = {name: self._see(name, each) for name, each in self._parts.pipelines.items()}
        for metric in METRICS:
            family = metric.family()
            for name, each in seen.items():
                for label, value in metric.samples(each):
                    if value is not None:
                        family.add_metric([name, label][: 1 + bool(metric.label)], value)
            yield family

    def _see(self, name: str, pipeline: Pipeline) -> Seen:
        """An audit that runs, or was cancelled, does not take the place of the one before."""
        task = self._parts.tasks.last(f"audit {name}")
        if task and task.state == "done" and task.ended and isinstance(task.result, Report):
            self._audited[name] = Audited(task.ended, task.result)
        return Seen(pipeline.settings, pipeline.watcher.seen(), self._audited.get(name))


class _Metric(NamedTuple):
    """`samples` are pairs of the label's value, "" without a label, and the number."""

    name: str
    meaning: str
    samples: Callable[[Seen], Iterable[Sample]]
    label: str = ""
    kind: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily

    def family(self) -> Family:
        labels = ("pipeline", self.label) if self.label else ("pipeline",)
        return self.kind(f"embedstream_{self.name}", self.meaning, labels=labels)


def _one_of(states: Iterable[str], state: str | None) -> Iterator[Sample]:
    """A sample for each state, which is 1 for the one that holds; none where that is not known."""
    return ((each, float(each == state)) for each in states if state is not None)


def _up(seen: Seen) -> Iterator[Sample]:
    if seen.reading is None:
        return
    status = seen.status
    if status is None:  # none of those without which there is nothing to tell
        yield from ((part, 0.0) for part in _NEEDED)
        return
    yield from ((part, float(part not in status.away)) for part in (*_NEEDED, "service"))
    if "jobmanager" not in status.away:
        yield "job", float(status.job == "RUNNING")


def _health(seen: Seen) -> Iterator[Sample]:
    state = seen.status.health.state if seen.status else "down" if seen.reading else None
    return _one_of(get_args(State), state)


def _lag(seen: Seen) -> Iterator[Sample]:
    partitions = seen.status.partitions if seen.status else None
    return ((str(each.partition), each.lag) for each in partitions or ())


def _oldest(seen: Seen) -> Iterator[Sample]:
    """Where all is read, nothing is old."""
    if seen.status:
        yield "", 0.0 if seen.status.lag == 0 else seen.status.oldest_unread_seconds


def _index_state(seen: Seen) -> Iterator[Sample]:
    index = seen.status.index if seen.status else None
    return _one_of(get_args(IndexState), index.state if index else None)


def _index_percent(seen: Seen) -> Iterator[Sample]:
    if seen.status and seen.status.index:
        yield "", seen.status.index.percent


def _outcomes(seen: Seen) -> Iterator[Sample]:
    return iter((seen.status.outcomes or {}).items() if seen.status else ())


def _latencies(seen: Seen) -> Iterator[Sample]:
    latencies = (seen.status.latency_ms or {}) if seen.status else {}
    return ((f"0.{percentile.removeprefix('p')}", value / 1000) for percentile, value in latencies.items())


def _findings(seen: Seen) -> Iterator[Sample]:
    if seen.audited:
        yield from {**dict.fromkeys(KINDS, 0), **seen.audited.report.kinds}.items()


def _of(field: str) -> Callable[[Seen], Iterator[Sample]]:
    """A number of the status."""

    def samples(seen: Seen) -> Iterator[Sample]:
        value: Any = getattr(seen.status, field) if seen.status else None
        yield "", value

    return samples


METRICS = (
    _Metric("up", "1 where a part answers; of the job: where it runs", _up, "part"),
    _Metric("health", "1 for the state that the pipeline is in", _health, "state"),
    _Metric("topic_messages", "Messages that the topic holds", _of("messages")),
    _Metric("lag_messages", "Messages that are unread", _lag, "partition"),
    _Metric("oldest_unread_seconds", "Age of the oldest unread message; 0 where all is read", _oldest),
    _Metric("eta_seconds", "Time until all is read, at the rate of now", _of("eta_seconds")),
    _Metric("rows_per_second", "Versions that the table took a second, since the look before", _of("rate")),
    _Metric("rows", "Rows of the table", _of("rows")),
    _Metric("deleted_ids", "Ids that are deleted", _of("deleted")),
    _Metric("dead_letters", "Messages that the dead-letter topic holds", _of("dead_letters")),
    _Metric("late", "Messages that lost only by their time", _of("late"), kind=CounterMetricFamily),
    _Metric(
        "job_messages", "Messages by outcome, since the job started", _outcomes, "outcome", CounterMetricFamily
    ),
    _Metric("job_latency_seconds", "Latency of the slowest slot's latest messages", _latencies, "quantile"),
    _Metric("since_checkpoint_seconds", "Time since the latest checkpoint", _of("since_checkpoint_seconds")),
    _Metric(
        "failed_checkpoints", "Checkpoints that failed, since the job started", _of("failed_checkpoints"),
        kind=CounterMetricFamily,
    ),
    _Metric("index_state", "1 for the state that the vector index is in", _index_state, "state"),
    _Metric("index_build_percent", "How much of its phase the index's build has done", _index_percent),
    _Metric("audit_findings", "Findings of the last audit that the console ran", _findings, "kind"),
    _Metric(
        "audit_timestamp_seconds", "When that audit ended",
        lambda seen: [("", seen.audited.at.timestamp() if seen.audited else None)],
    ),
    _Metric(
        "observed_timestamp_seconds", "When the console last looked",
        lambda seen: [("", seen.reading.at.timestamp() if seen.reading else None)],
    ),
    _Metric(
        "health_max_age_seconds", "How old an unread message may be in a healthy pipeline",
        lambda seen: [("", longest_age(seen.settings))],
    ),
    _Metric(
        "health_max_waiting_seconds", "How long ago the latest checkpoint may be in a healthy pipeline",
        lambda seen: [("", longest_wait(seen.settings))],
    ),
)  # fmt: skip
