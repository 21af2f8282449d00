"""A Flink session cluster through its REST API."""

from __future__ import annotations

import json
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import httpx

from embedstream.errors import EmbedstreamError
from embedstream.flink import rest
from embedstream.flink.causes import NOT_KNOWN, innermost
from embedstream.flink.recorded import recorded_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from embedstream.settings import Settings

_ENDED = frozenset({"FINISHED", "CANCELED", "FAILED"})
_POLL = 0.25
_HIDDEN = "******"
_NO_JOB = "no-job"
_UPLOAD_SECONDS = 300.0
# Options of Flink's own resource managers on Kubernetes and YARN.
_OF_GROWING = ("kubernetes.internal.jobmanager.entrypoint", "yarn.")


class NotStopped(EmbedstreamError):
    """A job went on although it was asked to stop."""


class Job(NamedTuple):
    """A job of the cluster; `state` is Flink's JobStatus, `since` the start in milliseconds since the epoch."""

    id: str
    name: str
    state: str
    since: int


class Metric(NamedTuple):
    """A metric over all subtasks."""

    sum: float
    max: float


class Progress(NamedTuple):
    """Of a running job: seconds since its latest checkpoint completed (or since it started), and its failed ones."""

    since_checkpoint: float
    failed_checkpoints: int


Finding = Literal["runs", "gone", "stopped"]


def jobs_named(overview: Mapping[str, Any], name: str) -> list[Job]:
    """The jobs of that name in an answer of `/jobs/overview`, oldest first."""
    found = (Job(job["jid"], job["name"], job["state"], job["start-time"]) for job in overview["jobs"])
    return sorted((job for job in found if job.name == name), key=lambda job: (job.since, job.id))


def _live(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.state not in _ENDED]


def judge(jobs: Sequence[Job]) -> Finding:
    """What became of the latest of these jobs: `stopped` where somebody cancelled or stopped it on purpose."""
    if any(job.state not in _ENDED for job in jobs):
        return "runs"
    return "gone" if not jobs or jobs[-1].state == "FAILED" else "stopped"


def _is_complaint(answer: httpx.Response) -> bool:
    """Whether it is Flink itself that has something against a request."""
    return answer.is_error and _complaint(answer) != NOT_KNOWN


def _complaint(answer: httpx.Response) -> str:
    """Of an answer with an error of Flink's, the cause."""
    try:
        errors = answer.json()["errors"]
    except (ValueError, KeyError, TypeError):
        return NOT_KNOWN
    return innermost(errors[-1]) if errors else NOT_KNOWN


class Cluster:
    """The cluster behind a JobManager's REST address; raises ConfigError where nobody answers there."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport

    def job(self, name: str) -> Job | None:
        """The latest job of that name that has not ended, if there is one."""
        return next(reversed(self.live_jobs(name)), None)

    def live_jobs(self, name: str) -> list[Job]:
        return _live(self._jobs(name))

    def all_live_jobs(self) -> list[Job]:
        """Of every name, the latest that has not ended."""
        overview = self._get("/jobs/overview")
        found = [_live(jobs_named(overview, name)) for name in sorted({job["name"] for job in overview["jobs"]})]
        return [jobs[-1] for jobs in found if jobs]

    def rivals(self, job: Job) -> list[Job]:
        """Other jobs of its name that have not ended, and are not told to: whoever submitted at the same time."""
        return [each for each in self.live_jobs(job.name) if each.id != job.id and each.state != "CANCELLING"]

    def is_live(self, job: Job) -> bool:
        return job.id in {each.id for each in self.live_jobs(job.name)}

    def why_ended(self, name: str) -> str:
        """The state of the latest job of that name, with the root cause where it failed."""
        jobs = self._jobs(name)
        return f"is {jobs[-1].state}: {self.cause(jobs[-1])}" if jobs else "is not known to the cluster"

    def _jobs(self, name: str) -> list[Job]:
        return jobs_named(self._get("/jobs/overview"), name)

    def finding(self, name: str) -> Finding:
        """Whether a job of that name runs, is gone, or was stopped."""
        return judge(self._jobs(name))

    def runs(self, job: Job) -> bool:
        """Whether every task of the job runs."""
        facts = self._get(f"/jobs/{job.id}")
        return facts["state"] == "RUNNING" and all(task["status"] == "RUNNING" for task in facts["vertices"])

    def progress(self, job: Job) -> Progress:
        """By the JobManager's own clock."""
        now = self._get(f"/jobs/{job.id}")["now"]
        checkpoints = self._get(f"/jobs/{job.id}/checkpoints")
        completed = (checkpoints.get("latest") or {}).get("completed") or {}
        latest = max(job.since, completed.get("latest_ack_timestamp", 0))
        return Progress(max(0.0, (now - latest) / 1000), checkpoints["counts"]["failed"])

    def metrics(self, job: Job, names: Collection[str]) -> dict[str, Metric]:
        """The metrics of the job's operators that have these names; nothing of those that none has reported yet."""
        found: dict[str, Metric] = {}
        for vertex in self._get(f"/jobs/{job.id}")["vertices"]:
            path = f"/jobs/{job.id}/vertices/{vertex['id']}/subtasks/metrics"
            ids = [id for metric in self._list(path) if (id := metric["id"]).rpartition(".")[2] in names]
            values = self._list(path, {"get": ",".join(ids), "agg": "sum,max"}) if ids else []
            found |= {value["id"].rpartition(".")[2]: Metric(value["sum"], value["max"]) for value in values}
        return found

    def overview(self) -> dict[str, Any]:
        """Flink's own summary: taskmanagers, slots-total, slots-available, flink-version."""
        return self._get("/overview")

    def class_path(self) -> list[str]:
        """The file names in the JobManager's class path."""
        return [PurePosixPath(path).name for path in self._get("/jobmanager/environment")["classpath"]]

    def slots_of(self, job: Job) -> int:
        """How many slots the job holds while all of it runs."""
        return max((int(task["parallelism"]) for task in self._get(f"/jobs/{job.id}")["vertices"]), default=0)

    def try_submission(self, size: int) -> None:
        """Offer a job of `size` bytes that Flink cannot read, and so refuses.

        Raises ConfigError where the answer is not Flink's: a proxy lets no such request through, or none so large.
        """
        request = json.dumps({"jobGraphFileName": _NO_JOB, "jobJarFileNames": [], "jobArtifactFileNames": []})
        offer = {"data": {"request": request}, "files": {"file": (_NO_JOB, bytes(size))}, "timeout": _UPLOAD_SECONDS}
        answer = self._request("POST", "/jobs", **offer)
        if not _is_complaint(answer):
            raise rest.takes_no_job(self._settings, answer.status_code, size)

    def carried_by(self, job: Job) -> dict[str, str]:
        """What the job was told to carry for everybody to read; nothing where an earlier version submitted it.

        Flink hides what has a name like a secret's.
        """
        carried = self._get(f"/jobs/{job.id}/config")["execution-config"]["user-config"]
        return {name: value for name, value in carried.items() if value != _HIDDEN}

    def settings_of(self, job: Job) -> dict[str, str]:
        """The settings that the job carries (`job_parameters`)."""
        names = {name.upper() for name in recorded_names()}
        return {name: value for name, value in self.carried_by(job).items() if name in names}

    def grows(self) -> bool:
        """Whether the cluster starts TaskManagers as jobs need them, so that its slots say nothing."""
        names = {entry["key"] for entry in self._list("/jobmanager/config")}
        return any(name.startswith(_OF_GROWING) for name in names)

    def task_managers(self) -> list[dict[str, Any]]:
        """Flink's own description of each: id, slotsNumber, memoryConfiguration (bytes)."""
        return list(self._get("/taskmanagers")["taskmanagers"])

    def stop(self, job: Job, timeout: float) -> str:
        """Stop with a savepoint, and return its path.

        Raises NotStopped where the job did not end within `timeout` seconds: a call that waits for an outage
        lets no savepoint through. The job then goes on.
        """
        answer = self._request("POST", f"/jobs/{job.id}/stop", json={"drain": False})
        if answer.is_error:
            raise NotStopped(f"job {job.name} was not stopped (HTTP {answer.status_code}): {_complaint(answer)}")
        path = f"/jobs/{job.id}/savepoints/{answer.json()['request-id']}"
        operation: dict[str, Any] = {}
        deadline = time.monotonic() + timeout
        while not operation and time.monotonic() < deadline:
            status = self._get(path)
            operation = status["operation"] if status["status"]["id"] == "COMPLETED" else {}
            time.sleep(_POLL)
        if "failure-cause" in operation:
            cause = innermost(operation["failure-cause"].get("stack-trace", ""))
            raise NotStopped(f"job {job.name} was not stopped, its savepoint failed: {cause}")
        if "location" not in operation:
            raise NotStopped(f"job {job.name} took no savepoint within {timeout:.0f} s, and goes on")
        return str(operation["location"])

    def cancel(self, job: Job) -> None:
        self._request("PATCH", f"/jobs/{job.id}", params={"mode": "cancel"})

    def cause(self, job: Job) -> str:
        """What the job's latest failure comes down to, in one line."""
        history = self._get(f"/jobs/{job.id}/exceptions")["exceptionHistory"]["entries"]
        if not history:
            return "no exception is known"
        latest = max(history, key=lambda entry: entry["timestamp"])
        return innermost(latest["stacktrace"])

    def _get(self, path: str) -> dict[str, Any]:
        return dict(self._json(path))

    def _list(self, path: str, params: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        return list(self._json(path, params))

    def _json(self, path: str, params: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - an answer of any shape
        answer = self._request("GET", path, params=params)
        try:
            return answer.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError) as exc:
            raise rest.refused(self._settings, answer.status_code) from exc

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            with rest.client(self._settings, 10.0, self._transport) as http:
                return http.request(method, path, **options)
        except httpx.HTTPError as exc:
            raise rest.unreachable(self._settings, exc) from exc
