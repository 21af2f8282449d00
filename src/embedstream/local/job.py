"""The submitted job as a part of the stack: `embedstream submit`, and a look at the JobManager from time to time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import httpx

from embedstream.errors import EmbedstreamError
from embedstream.flink import Cluster, NotStopped
from embedstream.local.part import Part
from embedstream.local.process import Command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedstream.local.flink import FlinkCluster
    from embedstream.settings import Settings

Finding = Literal["runs", "gone", "stopped", "unknown"]

SAVEPOINT_SECONDS = 10.0


class Job(Part):
    """Its program ends when the job runs; Flink keeps it running."""

    name = "job"
    needs = ("postgres", "kafka", "service", "jobmanager", "taskmanager")
    start_seconds: ClassVar[float] = 180.0

    def __init__(self, cluster: FlinkCluster, settings: Settings, log: Path) -> None:
        super().__init__(log, f"http://{cluster.address}/#/job/running")
        self._cluster = cluster
        self._settings = settings

    def program(self) -> Command:
        return Command([sys.executable, "-m", "embedstream", "submit"], self._cluster.env, doing="submitting")

    def is_ready(self) -> bool:
        return False

    def look(self) -> Finding:
        """What the JobManager knows of the job; a job that somebody stopped on purpose is not `gone`."""
        answer = self._cluster.get("/jobs/overview")
        if answer is None:
            return "unknown"
        jobs = [job for job in answer["jobs"] if job["name"] == self._settings.flink_job_name]
        return judge(jobs)

    def before_stop(self) -> str | None:
        """Stop with a savepoint: what has been read is committed, and not read again at the next start."""
        try:
            cluster = Cluster(self._settings)
            job = cluster.job(self._settings.flink_job_name)
            if job is not None:
                cluster.stop(job, SAVEPOINT_SECONDS)
        except NotStopped as exc:
            return f"{exc}; it is ended all the same, and reads its last messages again at the next start"
        except (EmbedstreamError, httpx.HTTPError) as exc:
            return f"not stopped with a savepoint: {exc}"
        return None


def judge(jobs: Sequence[dict[str, Any]]) -> Finding:
    """A job that was cancelled or stopped is left alone, or `embedstream submit --replace` would meet a second one."""
    states = [job["state"] for job in sorted(jobs, key=lambda job: job["start-time"])]
    ended = {"FAILED": "gone", "CANCELED": "stopped", "FINISHED": "stopped"}
    if any(state not in ended for state in states):
        return "runs"
    if not states or states[-1] == "FAILED":
        return "gone"
    return "stopped"
