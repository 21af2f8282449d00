"""Whether the pipeline keeps up, not only whether its processes live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from embedstream.display import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings
    from embedstream.status.read import Status

# Flink's Kafka source commits offsets between two polls, and waits so long in one that finds no record.
_COMMIT_DELAY = 10.0

State: TypeAlias = Literal["healthy", "degraded", "down"]


@dataclass(frozen=True)
class Health:
    """`reasons` are empty where the pipeline is healthy."""

    state: State = "healthy"
    reasons: list[str] = field(default_factory=list)


def judge(status: Status, settings: Settings) -> Health:
    """Down where no job works at the topic, degraded where it is behind or a part of its world is away."""
    if "jobmanager" in status.away:
        return Health("down", list(status.away.values()))
    if status.job is None:
        idle = f"no job {settings.flink_job_name} runs: embedstream submit starts it"
        return Health("down", [idle, *status.troubles, *_losses(status)])
    reasons = list(_shortcomings(status, settings))
    return Health("degraded" if reasons else "healthy", reasons)


def waits_for(status: Status, settings: Settings) -> list[str]:
    """The parts that the job waits for inside a call: they are away, and it has missed a checkpoint."""
    stalled = status.since_checkpoint_seconds or 0.0
    missed = stalled > 2 * _interval(settings)
    return [part for part in ("service", "database") if missed and part in status.away]


def longest_age(settings: Settings) -> float:
    """So many seconds the oldest unread message may have waited: offsets are committed no oftener than checkpoints."""
    return settings.health_max_age_seconds + _interval(settings) + _COMMIT_DELAY


def longest_wait(settings: Settings) -> float:
    """So many seconds ago the latest checkpoint may have completed."""
    return settings.health_max_waiting_seconds + _interval(settings)


def _interval(settings: Settings) -> float:
    return settings.flink_checkpoint_interval_ms / 1000


def _shortcomings(status: Status, settings: Settings) -> Iterator[str]:
    if status.job != "RUNNING":
        yield f"the job is {status.job}"
    yield from status.away.values()
    yield from status.troubles
    yield from _losses(status)
    age, stalled = status.oldest_unread_seconds, status.since_checkpoint_seconds
    if age is not None and age > longest_age(settings):
        yield f"the oldest unread message has waited for {duration(age)}"
    if status.lag is not None and settings.health_max_lag is not None and status.lag > settings.health_max_lag:
        yield f"{status.lag:,} messages are unread"
    if stalled is not None and stalled > longest_wait(settings):
        yield f"no checkpoint has completed for {duration(stalled)}"


def _losses(status: Status) -> Iterator[str]:
    for loss in status.losses:
        yield f"{loss}: embedstream submit --replace reads the topic again"
