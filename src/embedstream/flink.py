"""A Flink session cluster through its REST API and its command line; no PyFlink in this process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import httpx

from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from embedstream.settings import Settings

_ENDED = frozenset({"FINISHED", "CANCELED", "FAILED"})
_POLL = 0.25


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
    return sorted((job for job in found if job.name == name), key=lambda job: job.since)


def judge(jobs: Sequence[Job]) -> Finding:
    """What became of the latest of these jobs: `stopped` where somebody cancelled or stopped it on purpose."""
    if any(job.state not in _ENDED for job in jobs):
        return "runs"
    return "gone" if not jobs or jobs[-1].state == "FAILED" else "stopped"


class Cluster:
    """The cluster behind a JobManager's REST address; raises ConfigError where nobody answers there."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self._url = settings.flink_rest_url
        self._transport = transport

    def job(self, name: str) -> Job | None:
        """The job of that name that has not ended, if there is one."""
        return next(iter(self.live_jobs(name)), None)

    def live_jobs(self, name: str) -> list[Job]:
        return [job for job in self._jobs(name) if job.state not in _ENDED]

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
            raise NotStopped(f"job {job.name} was not stopped (HTTP {answer.status_code})")
        path = f"/jobs/{job.id}/savepoints/{answer.json()['request-id']}"
        operation: dict[str, Any] = {}
        deadline = time.monotonic() + timeout
        while not operation and time.monotonic() < deadline:
            status = self._get(path)
            operation = status["operation"] if status["status"]["id"] == "COMPLETED" else {}
            time.sleep(_POLL)
        if "failure-cause" in operation:
            raise NotStopped(f"job {job.name} was not stopped: its savepoint failed, see {self._url}")
        if "location" not in operation:
            raise NotStopped(f"job {job.name} took no savepoint within {timeout:.0f} s, and goes on")
        return str(operation["location"])

    def cancel(self, job: Job) -> None:
        self._request("PATCH", f"/jobs/{job.id}", params={"mode": "cancel"})

    def cause(self, job: Job) -> str:
        """The innermost exception of the job's latest failure, in one line."""
        root = self._get(f"/jobs/{job.id}/exceptions").get("root-exception") or "no exception is known"
        causes = [line for line in root.splitlines() if line.startswith("Caused by: ")] or root.splitlines()
        return str(causes[-1].removeprefix("Caused by: "))

    def _get(self, path: str) -> dict[str, Any]:
        return dict(self._json(path))

    def _list(self, path: str, params: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        return list(self._json(path, params))

    def _json(self, path: str, params: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - an answer of any shape
        try:
            return self._request("GET", path, params=params).raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError) as exc:
            raise ConfigError(f"what answers at {self._url} is no Flink JobManager: set FLINK_REST_URL") from exc

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            with httpx.Client(base_url=self._url, timeout=10.0, transport=self._transport, trust_env=False) as http:
                return http.request(method, path, **options)
        except httpx.HTTPError as exc:
            raise ConfigError(
                f"no Flink JobManager answers at {self._url} ({type(exc).__name__}): start it, or set FLINK_REST_URL"
            ) from exc


def run(settings: Settings, on_output: Callable[[str], None] = lambda _: None) -> None:
    """Submit the job with `flink run`; raises ConfigError with the last lines it printed where it fails."""
    rest = urlsplit(settings.flink_rest_url)
    command = [
        str((settings.flink_home or flink_home()) / "bin" / "flink"),
        "run",
        "--detached",
        "--target=remote",
        f"-Drest.address={rest.hostname}",
        f"-Drest.port={rest.port or 80}",
        f"--pyExecutable={sys.executable}",
        f"--pyClientExecutable={sys.executable}",
        "--python",
        str(Path(__file__).with_name("job") / "__main__.py"),
    ]
    done = subprocess.run(
        command,
        env=child_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        on_output(line)
    if done.returncode:
        tail = " | ".join(line.strip() for line in done.stdout.strip().splitlines()[-5:])
        raise ConfigError(f"flink run ended with {done.returncode}: {tail}")


def flink_home() -> Path:
    """The distribution inside PyFlink; found without importing it."""
    spec = importlib.util.find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise ConfigError("neither FLINK_HOME is set nor apache-flink installed: pip install 'embedstream[job]'")
    return Path(spec.origin).parent
