"""From settings to a running job: topics, schema, space, submission."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from embedstream import doctor, embedding, flink, kafka, services, starts, store
from embedstream.errors import ConfigError, EmbedstreamError, RetryLater
from embedstream.splitting import splitter_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

_POLL = 0.25
_END_SECONDS = 180.0


def submit(
    settings: Settings,
    say: Callable[[str], None],
    *,
    replace: bool = False,
    adopts: bool = False,
    replays: bool = False,
    timeout: float = 120.0,
) -> flink.Job:
    """Make sure that the job runs, and return it once every task does; one that runs with these settings is left alone.

    With `replace` the old job is stopped with a savepoint first, and cancelled where a stop gets through to it no
    more. The new one goes on where table and group stand (see `starts`), not at the savepoint: that would pin it to
    the old topic; with `adopts` it takes the topic for a new one, with `replays` it reads it again. All that can be
    known beforehand is looked at while the old job runs, and where the new one does not come to run nevertheless, the
    old one is started again. Raises ConfigError with what to do where a part of the world is missing or does not fit.
    """
    cluster = flink.Cluster(settings)
    job = cluster.job(settings.flink_job_name)
    if job and not replace:
        _check_same(cluster, job, settings)
        say(f"job {job.name} runs already ({job.id})")
        return _await_running(cluster, settings, timeout)
    doctor.check_submission(settings)
    _prepare(settings, say, adopts=adopts)
    new = _New(cluster, settings, say, timeout, adopts, replays)
    return _replace(new, job) if job else _start(new)


class _New(NamedTuple):
    """A job to come; `timeout` is in seconds."""

    cluster: flink.Cluster
    settings: Settings
    say: Callable[[str], None]
    timeout: float
    adopts: bool = False
    replays: bool = False


def _check_same(cluster: flink.Cluster, job: flink.Job, settings: Settings) -> None:
    """Raises ConfigError where the job that runs works otherwise."""
    if others := differences(cluster, job, settings):
        raise ConfigError(
            f"job {job.name} runs with other settings ({'; '.join(others)}): embedstream submit --replace "
            "starts it anew with these, or set FLINK_JOB_NAME to run another one beside it"
        )


def differences(cluster: flink.Cluster, job: flink.Job, settings: Settings) -> list[str]:
    """Where a job works for other settings, or for another table, topic or cluster of these names, in words."""
    carried = cluster.carried_by(job)
    others = flink.differences(carried, settings)
    with suppress(EmbedstreamError):  # what is away cannot tell, and is no reason to leave the job alone
        ids = starts.origin(settings) if carried else {}
        theirs = {name: carried.get(name, id) for name, id in ids.items()}
        others += [f"{name} is {theirs[name]} there, {id} here" for name, id in ids.items() if theirs[name] != id]
    return others


def _prepare(settings: Settings, say: Callable[[str], None], *, adopts: bool) -> None:
    kafka.java_config(settings)  # it raises what would end the job in its first second
    for topic in kafka.ensure_topics(settings, say):
        say(f"created topic {topic}")
    try:
        own, space = services.find(settings)
        splitter = splitter_of(own, space)
        origin = embedding.read_origin(own)
        store.prepare(
            settings,
            space,
            adopts=adopts,
            splitting=splitter.identity if splitter else None,
            hub_commit=origin.commit if origin else None,
            canary=embedding.read_canary(own),
        )
        if not adopts:
            with store.database(settings) as connection:
                starts.check_identity(settings, store.read_progress(connection, settings), kafka.identity(settings))
        kafka.check_members(settings)
    except RetryLater as exc:
        raise ConfigError(str(exc)) from exc
    say(f"table {settings.pgvector_table} holds vectors of {space}")


def forgotten(settings: Settings) -> list[str]:
    """What a worker found that the table has forgotten, a line each; nothing where the database does not tell."""
    try:
        with store.database(settings) as connection:
            return store.read_forgotten(connection, settings)
    except EmbedstreamError:
        return []


def _start(new: _New) -> flink.Job:
    name = new.settings.flink_job_name
    chosen = _begin(new)
    new.say(f"submitting job {name}")
    flink.run(new.settings, arguments=starts.as_arguments(new.settings, chosen))
    job = _await_running(new.cluster, new.settings, new.timeout)
    new.say(f"job {name} runs ({job.id})")
    return job


def _begin(new: _New) -> list[starts.Start]:
    try:
        chosen = starts.begin(new.settings, adopts=new.adopts, replays=new.replays)
    except RetryLater as exc:
        raise ConfigError(str(exc)) from exc
    for start in chosen:
        new.say(str(start))
    return chosen


def _replace(new: _New, old: flink.Job) -> flink.Job:
    cluster, say = new.cluster, new.say
    carried = cluster.settings_of(old)
    say(f"planning job {old.name} anew while the old one runs")
    flink.plan(new.settings)
    try:
        _stop(cluster, old, say, gently=not forgotten(new.settings))
        return _start(new)
    except (Exception, KeyboardInterrupt) as exc:
        why = str(exc) or type(exc).__name__
        say(f"the new job does not run: {why}; starting the old one again")
        # The old job has run here before, so that a short patience with the new one is none with it.
        outcome = _put_back(new._replace(timeout=max(new.timeout, _END_SECONDS)), old, carried)
        raise ConfigError(f"{why}; {outcome}") from exc


def _put_back(new: _New, old: flink.Job, carried: dict[str, str]) -> str:
    """What became of the old job, in words: it runs on, it runs again, or why neither."""
    by_hand = "nothing runs now: mend that and run `embedstream submit`, as `submit --follow` does by itself"
    try:
        for job in new.cluster.live_jobs(old.name):
            if job.id == old.id and job.state != "CANCELLING":
                return f"the old job runs on ({old.id})"
            _cancel(new.cluster, job)
        if not carried:
            return f"what the old job was submitted with is not known, an earlier version did it; {by_hand}"
        settings = flink.settings_of_parameters(carried, new.settings)
        job = _start(new._replace(settings=settings, say=lambda _: None, adopts=False, replays=False))
    except EmbedstreamError as exc:
        return f"the old job could not be started again ({exc}); {by_hand}"
    return f"the old job runs again with its own settings ({job.id})"


def _stop(cluster: flink.Cluster, job: flink.Job, say: Callable[[str], None], *, gently: bool) -> None:
    """A call that waits for what the table has forgotten lets no savepoint through, so it is not asked for one."""
    try:
        if gently:
            say(f"stopped job {job.name} with savepoint {cluster.stop(job, timeout=60)}")
        else:
            say(f"cancelling job {job.name}: its table went back in time")
            cluster.cancel(job)
    except flink.NotStopped as exc:
        say(f"{exc}: cancelling it, which loses nothing")
        cluster.cancel(job)
    _await_end(cluster, job)


def _cancel(cluster: flink.Cluster, job: flink.Job) -> None:
    cluster.cancel(job)
    _await_end(cluster, job)


def _await_end(cluster: flink.Cluster, job: flink.Job) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while cluster.is_live(job):
        if time.monotonic() > deadline:
            raise ConfigError(f"job {job.name} was cancelled, but has not ended after {_END_SECONDS:.0f} s")
        time.sleep(_POLL)


def _await_running(cluster: flink.Cluster, settings: Settings, timeout: float) -> flink.Job:
    """The latest job of the name once it runs; of two who submitted at once, both keep that one alone."""
    deadline = time.monotonic() + timeout
    while True:
        job = cluster.job(settings.flink_job_name)
        if job is None:
            raise ConfigError(f"job {settings.flink_job_name} {cluster.why_ended(settings.flink_job_name)}")
        for rival in cluster.rivals(job):
            cluster.cancel(rival)
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
