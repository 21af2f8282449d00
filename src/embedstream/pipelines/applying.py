"""From the file to running jobs: what would be done, and doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from embedstream import flink
from embedstream.submit import differences, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from embedstream.settings import Settings

Action: TypeAlias = Literal["submit", "replace", "leave", "stop"]
_STOP_SECONDS = 60.0


class Step(NamedTuple):
    """What is to be done about a job, and why: the differences between what runs and what the file says."""

    pipeline: str
    job: str
    action: Action
    differences: Sequence[str] = ()

    def __str__(self) -> str:
        why = f": {'; '.join(self.differences)}" if self.differences else ""
        return f"{self.pipeline}: {self.action} job {self.job}{why}"


def plan(pipelines: Mapping[str, Settings], *, prunes: bool = False) -> list[Step]:
    """By pipeline; with `prunes` also for the jobs of ours that run for no pipeline.

    Raises ConfigError where Flink does not answer.
    """
    steps = [_step(name, settings) for name, settings in pipelines.items()]
    return steps + (_strangers(pipelines) if prunes else [])


def _step(name: str, settings: Settings) -> Step:
    cluster = flink.Cluster(settings)
    job = cluster.job(settings.flink_job_name)
    if job is None:
        return Step(name, settings.flink_job_name, "submit")
    others = differences(cluster, job, settings)
    return Step(name, job.name, "replace" if others else "leave", others)


def _strangers(pipelines: Mapping[str, Settings]) -> list[Step]:
    names = {settings.flink_job_name for settings in pipelines.values()}
    cluster = flink.Cluster(next(iter(pipelines.values())))
    others = [job for job in cluster.all_live_jobs() if job.name not in names]
    return [Step("-", job.name, "stop", ["no pipeline has it"]) for job in others if cluster.settings_of(job)]


def apply(
    step: Step, settings: Settings, say: Callable[[str], None], *, replays: bool = False, timeout: float = 120.0
) -> None:
    """Do the step; one that `replays` is done whatever runs. Raises ConfigError with what to do."""
    if step.action == "stop":
        cluster = flink.Cluster(settings)
        if job := cluster.job(step.job):
            say(f"stopped job {job.name} with savepoint {cluster.stop(job, _STOP_SECONDS)}")
    elif step.action != "leave" or replays:
        submit(settings, say, replace=step.action != "submit", replays=replays, timeout=timeout)
    else:
        say(f"job {step.job} runs as the file says")
