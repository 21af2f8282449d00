"""One look at every part of the pipeline; a part that is away costs its own line only."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from embedstream import flink
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.remote import seconds_at_limit
from embedstream.status import parts
from embedstream.status.health import Health, judge, waits_for

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Self

    import httpx

    from embedstream.index.state import Index
    from embedstream.kafka import Position
    from embedstream.migrate.standing import Standing
    from embedstream.settings import Settings
    from embedstream.store import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Partition:
    """A partition of the input topic; `next` is the offset up to which the pipeline is.

    That is what the table says (`recorded`), else what the group has committed. `first`, `stable` and `end` are offsets
    of the log; what lies between the latter two waits behind an open transaction. `expired_unread` are offsets that
    left the log before they were read. `late` are records that lost against an earlier one only by their time.
    """

    partition: int
    next: int
    end: int
    lag: int
    unread: int = 0
    first: int = 0
    stable: int | None = None
    committed: int | None = None
    recorded: int | None = None
    behind_transaction: int = 0
    transaction_age_seconds: float | None = None
    beyond_end: bool = False
    expired_unread: int = 0
    late: int | None = None

    @classmethod
    def of(cls, position: Position, progress: Progress | None = None) -> Self:
        return cls(
            position.partition, position.next, position.end, position.unread,
            unread=position.unread, first=position.first, stable=position.stable, committed=position.committed,
            recorded=position.recorded, behind_transaction=position.behind_transaction,
            transaction_age_seconds=position.held_for,
            beyond_end=bool(position.beyond), expired_unread=position.expired_unread,
            late=progress.late if progress else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Status:
    """What is not known, because its part is away, is None; `away` says why.

    `lag` is `unread`: what a reader of committed records would still get beyond `next` of the partitions, which moves
    with the table where that keeps progress (`counted_by`), else in steps with the checkpoints. `rate` is in rows per
    second that took effect, measured over `seconds`. The job's numbers count from the start of its operators.
    `migration` is there while the table is on its way to another model. `group_members` are consumers that subscribed
    with the job's group. `troubles` are those between table and topic, and that of a remote server behind the service;
    `remote_eta_seconds` is how long the backlog takes at its rate.
    """

    topic: str
    table: str
    job: str | None = None
    messages: int | None = None
    lag: int | None = None
    partitions: list[Partition] | None = None
    oldest_unread_seconds: float | None = None
    unread: int | None = None
    counted_by: Literal["table", "group"] | None = None
    behind_transaction: int | None = None
    transaction_age_seconds: float | None = None
    group_members: list[str] | None = None
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
    remote: dict[str, Any] | None = None
    remote_eta_seconds: float | None = None
    migration: Standing | None = None
    waits_for: list[str] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
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
        status = Status(settings.kafka_input_topic, settings.pgvector_table, away=answers.away)
        status = self._with_rows(_with_work(_with_queue(status, queue, settings), work), rows)
        status = _with_service(status, service)
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
            migration=rows.migration,
            losses=[*rows.forgotten, *([rows.losses] if rows.losses else [])],
        )
        if before is None:
            return status
        seconds = max(time.monotonic() - before[0], 1e-3)
        rate = max(0.0, (rows.versions - before[1]) / seconds)
        eta = 0.0 if status.lag == 0 else status.lag / rate if status.lag and rate else None
        return replace(status, rate=rate, seconds=seconds, eta_seconds=eta)


def _with_queue(status: Status, queue: parts.Queue | None, settings: Settings) -> Status:
    if queue is None:
        return status
    standing = queue.standing
    log, progress = standing.log, standing.progress
    return replace(
        status,
        messages=sum(position.end - position.first for position in log.positions),
        lag=log.unread,
        unread=log.unread,
        counted_by="table" if any(each.recorded is not None for each in log.positions) else "group",
        partitions=[Partition.of(position, progress.get(position.partition)) for position in log.positions],
        oldest_unread_seconds=log.oldest_unread,
        behind_transaction=log.behind_transaction,
        transaction_age_seconds=log.oldest_held,
        group_members=None if log.members is None else [str(member) for member in log.members],
        dead_letters=queue.dead_letters,
        troubles=[str(trouble) for trouble in standing.troubles(settings.health_max_age_seconds)],
    )


def _with_service(status: Status, service: parts.Service | None) -> Status:
    if service is None:
        return status
    return replace(
        status,
        service=service.space,
        remote=service.remote,
        remote_eta_seconds=seconds_at_limit(service.remote, status.lag) if service.remote else None,
        troubles=[*status.troubles, *([service.trouble] if service.trouble else [])],
    )


def _with_work(status: Status, work: parts.Work | None) -> Status:
    return status if work is None else replace(status, **work._asdict())
