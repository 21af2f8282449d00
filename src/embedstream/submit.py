"""From settings to a running job: topics, schema, space, submission."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from embedstream import embedding, flink, kafka, store
from embedstream.doctor import check
from embedstream.doctor import cluster as flink_checks
from embedstream.doctor.world import World
from embedstream.errors import ConfigError, EmbedstreamError, RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

_POLL = 0.25
_END_SECONDS = 180.0


def submit(
    settings: Settings, say: Callable[[str], None], *, replace: bool = False, timeout: float = 120.0
) -> flink.Job:
    """Make sure that the job runs, and return it once every task does; a job that runs already is left alone.

    With `replace` the old job is stopped with a savepoint first, and cancelled where a stop gets through to it no
    more. The new one goes on at the group's committed offsets, not at the savepoint: that would pin it to the old
    topic. All that can be known beforehand is looked at while the old job runs, and where the new one does not come
    to run nevertheless, the old one is started again. Raises ConfigError with what to do where a part of the world is
    missing or does not fit.
    """
    cluster = flink.Cluster(settings)
    job = cluster.job(settings.flink_job_name)
    if job and not replace:
        say(f"job {job.name} runs already ({job.id})")
        return _await_running(cluster, settings, timeout)
    _check(settings)
    _prepare(settings, say)
    return _replace(cluster, job, settings, say, timeout) if job else _start(cluster, settings, say, timeout)


def _check(settings: Settings) -> None:
    with World(settings) as world:
        for finding in check.run(flink_checks.OF_SUBMISSION, world):
            if finding.state == "FAIL":
                raise ConfigError(f"{finding.fact}: {finding.remedy}" if finding.remedy else finding.fact)


def _prepare(settings: Settings, say: Callable[[str], None]) -> None:
    for topic in kafka.ensure_topics(settings):
        say(f"created topic {topic}")
    try:
        space = embedding.read_space(settings)
        store.prepare(settings, space)
    except RetryLater as exc:
        raise ConfigError(str(exc)) from exc
    say(f"table {settings.pgvector_table} holds vectors of {space}")


def _start(cluster: flink.Cluster, settings: Settings, say: Callable[[str], None], timeout: float) -> flink.Job:
    say(f"submitting job {settings.flink_job_name}")
    flink.run(settings)
    job = _await_running(cluster, settings, timeout)
    say(f"job {job.name} runs ({job.id})")
    return job


def _replace(
    cluster: flink.Cluster, old: flink.Job, settings: Settings, say: Callable[[str], None], timeout: float
) -> flink.Job:
    carried = cluster.settings_of(old)
    say(f"planning job {old.name} anew while the old one runs")
    flink.plan(settings)
    try:
        _stop(cluster, old, say)
        return _start(cluster, settings, say, timeout)
    except (Exception, KeyboardInterrupt) as exc:
        why = str(exc) or type(exc).__name__
        say(f"the new job does not run: {why}; starting the old one again")
        # The old job has run here before, so that a short patience with the new one is none with it.
        outcome = _put_back(cluster, old, carried, settings, max(timeout, _END_SECONDS))
        raise ConfigError(f"{why}; {outcome}") from exc


def _put_back(
    cluster: flink.Cluster, old: flink.Job, carried: dict[str, str], settings: Settings, timeout: float
) -> str:
    """What became of the old job, in words: it runs on, it runs again, or why neither."""
    by_hand = "nothing runs now: mend that and run `embedstream submit`, as `submit --follow` does by itself"
    try:
        for job in cluster.live_jobs(old.name):
            if job.id == old.id and job.state != "CANCELLING":
                return f"the old job runs on ({old.id})"
            _cancel(cluster, job)
        if not carried:
            return f"what the old job was submitted with is not known, an earlier version did it; {by_hand}"
        job = _start(cluster, flink.settings_of_parameters(carried, settings), lambda _: None, timeout)
    except EmbedstreamError as exc:
        return f"the old job could not be started again ({exc}); {by_hand}"
    return f"the old job runs again with its own settings ({job.id})"


def _stop(cluster: flink.Cluster, job: flink.Job, say: Callable[[str], None]) -> None:
    try:
        say(f"stopped job {job.name} with savepoint {cluster.stop(job, timeout=60)}")
    except flink.NotStopped as exc:
        say(f"{exc}: cancelling it, which loses nothing")
        cluster.cancel(job)
    _await_end(cluster, job)


def _cancel(cluster: flink.Cluster, job: flink.Job) -> None:
    cluster.cancel(job)
    _await_end(cluster, job)


def _await_end(cluster: flink.Cluster, job: flink.Job) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while cluster.job(job.name):
        if time.monotonic() > deadline:
            raise ConfigError(f"job {job.name} was cancelled, but has not ended after {_END_SECONDS:.0f} s")
        time.sleep(_POLL)


def _await_running(cluster: flink.Cluster, settings: Settings, timeout: float) -> flink.Job:
    deadline = time.monotonic() + timeout
    while True:
        job = cluster.job(settings.flink_job_name)
        if job is None:
            raise ConfigError(f"job {settings.flink_job_name} {cluster.why_ended(settings.flink_job_name)}")
        if cluster.runs(job):
            return job
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    slots, cause = cluster.overview()["slots-total"], cluster.cause(job)
    raise ConfigError(
        f"job {settings.flink_job_name} does not run after {timeout:.0f} s: the cluster has {slots} slots, "
        f"FLINK_PARALLELISM is {settings.flink_parallelism}, and of the job's failures {cause}{_remedy(cause)}"
    )


def _remedy(cause: str) -> str:
    """What to do where a worker's machine has another Python than the job was told of."""
    of_python = "Cannot run program" in cause or cause.startswith(("ModuleNotFoundError", "ImportError"))
    return ": FLINK_PYTHON is to name a Python on the workers' machines with embedstream in it" if of_python else ""
