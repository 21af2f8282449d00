"""From settings to a running job: topics, schema, space, submission."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from embedstream import embedding, flink, kafka, store
from embedstream.errors import ConfigError, RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

_POLL = 0.25


def submit(
    settings: Settings, say: Callable[[str], None], *, replace: bool = False, timeout: float = 120.0
) -> flink.Job:
    """Make sure that the job runs, and return it once every task does; a job that runs already is left alone.

    With `replace` the old job is stopped with a savepoint first, and cancelled where a stop gets through to it no
    more. The new one goes on at the group's committed offsets, not at the savepoint: that would pin it to the old
    topic. Raises ConfigError with what to do where a part of the world is missing or does not fit.
    """
    cluster = flink.Cluster(settings)
    job = cluster.job(settings.flink_job_name)
    if job and not replace:
        say(f"job {job.name} runs already ({job.id})")
        return _await_running(cluster, settings, timeout)
    _prepare(settings, say)
    if job:
        _stop(cluster, job, say)
    say(f"submitting job {settings.flink_job_name}")
    flink.run(settings)
    job = _await_running(cluster, settings, timeout)
    say(f"job {job.name} runs ({job.id})")
    return job


def _prepare(settings: Settings, say: Callable[[str], None]) -> None:
    kafka.java_config(settings)  # it raises what would end the job in its first second
    for topic in kafka.ensure_topics(settings, say):
        say(f"created topic {topic}")
    try:
        space = embedding.read_space(settings)
        store.prepare(settings, space)
    except RetryLater as exc:
        raise ConfigError(str(exc)) from exc
    say(f"table {settings.pgvector_table} holds vectors of {space}")


def _stop(cluster: flink.Cluster, job: flink.Job, say: Callable[[str], None]) -> None:
    try:
        say(f"stopped job {job.name} with savepoint {cluster.stop(job, timeout=60)}")
    except flink.NotStopped as exc:
        say(f"{exc}: cancelling it, which loses nothing")
        cluster.cancel(job)
    while cluster.job(job.name):
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
    slots = cluster.overview()["slots-total"]
    raise ConfigError(
        f"job {settings.flink_job_name} does not run after {timeout:.0f} s: the cluster has {slots} slots, "
        f"FLINK_PARALLELISM is {settings.flink_parallelism}, and of the job's failures {cluster.cause(job)}"
    )
