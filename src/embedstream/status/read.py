"""One look at every part of the pipeline; a part that is away costs its own line only."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from embedstream import flink
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.status import parts
from embedstream.status.health import Health, judge, waits_for

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Self

    import httpx

    from embedstream.index.state import Index
    from embedstream.kafka import Position
    from embedstream.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Partition:
    """A partition of the input topic; `next` is the offset after the last one that a checkpoint committed."""

    partition: int
    next: int
    end: int
    lag: int

    @classmethod
    def of(cls, position: Position) -> Self:
        return cls(position.partition, position.next, position.end, position.lag)


@dataclass(frozen=True)
class Status:
    """What is not known, because its part is away, is None; `away` says why.

    `lag` counts what lies beyond the offsets of the last checkpoint, so it falls in steps. `rate` is in rows per second
    that took effect, measured over `seconds`. The job's numbers count from the start of its operators.
    """

    topic: str
    table: str
    job: str | None = None
    messages: int | None = None
    lag: int | None = None
    partitions: list[Partition] | None = None
    oldest_unread_seconds: float | None = None
    eta_seconds: float | None = None
    rows: int | None = None
    deleted: int | None = None
    index: Index | None = None
    late: int | None = None
    losses: list[str] = field(default_factory=list)
    dead_letters: int | None = None
    rate: float | None = None
    seconds: float | None = None
    outcomes: dict[str, int] | None = None
    counts: dict[str, int] | None = None
    latency_ms: dict[str, int] | None = None
    since_checkpoint_seconds: float | None = None
    failed_checkpoints: int | None = None
    service: str | None = None
    waits_for: list[str] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    health: Health = field(default_factory=Health)


class _Answers:
    """Collects what the parts say, and why others say nothing."""

    def __init__(self) -> None:
        self.away: dict[str, str] = {}

    def take(self, part: str, answer: Future[T]) -> T | None:
        try:
            return answer.result()
        except EmbedstreamError as exc:
            self.away[part] = str(exc)
            return None


class Observer:
    """Reads the status again and again; the rate is that since the reading before, at first over two seconds."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None, seconds: float = 2.0) -> None:
        self._settings = settings
        self._cluster = flink.Cluster(settings, transport)
        self._seconds = seconds
        self._before: tuple[float, int] | None = None

    def read(self) -> Status:
        """Raises ConfigError where neither Kafka nor the database nor a JobManager answers."""
        self._begin()
        settings, answers = self._settings, _Answers()
        with ThreadPoolExecutor(4, "status") as threads:
            asked_queue = threads.submit(parts.read_queue, settings)
            asked_rows = threads.submit(parts.read_rows, settings)
            asked_work = threads.submit(parts.read_work, settings, self._cluster)
            asked_service = threads.submit(parts.read_service, settings)
            queue = answers.take("kafka", asked_queue)
            rows = answers.take("database", asked_rows)
            work = answers.take("jobmanager", asked_work)
            service = answers.take("service", asked_service)
        if queue is None and rows is None and work is None:
            raise ConfigError("; ".join(answers.away[part] for part in ("kafka", "database", "jobmanager")))
        status = Status(settings.kafka_input_topic, settings.pgvector_table, service=service, away=answers.away)
        status = self._with_rows(_with_work(_with_queue(status, queue), work), rows)
        status = replace(status, waits_for=waits_for(status, settings))
        return replace(status, health=judge(status, settings))

    def _begin(self) -> None:
        """Start to measure where nothing was measured before."""
        if self._before is None:
            with suppress(EmbedstreamError):
                self._before = (time.monotonic(), parts.read_versions(self._settings))
                time.sleep(self._seconds)

    def _with_rows(self, status: Status, rows: parts.Rows | None) -> Status:
        before, self._before = self._before, (time.monotonic(), rows.versions) if rows else None
        if rows is None:
            return status
        status = replace(
            status,
            rows=rows.rows,
            deleted=rows.deleted,
            index=rows.index,
            late=rows.late,
            losses=[*rows.forgotten, *([rows.losses] if rows.losses else [])],
        )
        if before is None:
            return status
        seconds = max(time.monotonic() - before[0], 1e-3)
        rate = max(0.0, (rows.versions - before[1]) / seconds)
        eta = 0.0 if status.lag == 0 else status.lag / rate if status.lag and rate else None
        return replace(status, rate=rate, seconds=seconds, eta_seconds=eta)


def _with_queue(status: Status, queue: parts.Queue | None) -> Status:
    if queue is None:
        return status
    return replace(
        status,
        messages=sum(position.end - position.first for position in queue.positions),
        lag=sum(position.lag for position in queue.positions),
        partitions=[Partition.of(position) for position in queue.positions],
        oldest_unread_seconds=queue.oldest_unread_seconds,
        dead_letters=queue.dead_letters,
    )


def _with_work(status: Status, work: parts.Work | None) -> Status:
    return status if work is None else replace(status, **work._asdict())
