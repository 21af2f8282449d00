"""The submitted job as a part of the stack: `embedstream submit`, and a look at the JobManager from time to time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar, Literal

import httpx

from embedstream.errors import EmbedstreamError
from embedstream.flink import Cluster, NotStopped, jobs_named, judge
from embedstream.local.part import Part
from embedstream.local.process import Command
from embedstream.submit import forgotten

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from embedstream.flink import Finding
    from embedstream.local.flink import FlinkCluster
    from embedstream.settings import Settings

SAVEPOINT_SECONDS = 10.0


def name_of_job(pipeline: str | None) -> str:
    """As a part of the stack."""
    return f"job-{pipeline}" if pipeline else "job"


class Job(Part):
    """Its program ends when the job runs; Flink keeps it running. Of several pipelines each has a job of its own."""

    name = "job"
    needs = ("registry", "postgres", "kafka", "service", "jobmanager", "taskmanager")
    is_kept_trying: ClassVar[bool] = True  # it cannot run while another part is down
    start_seconds: ClassVar[float] = 180.0

    def __init__(self, cluster: FlinkCluster, settings: Settings, log: Path, pipeline: str | None = None) -> None:
        super().__init__(log, f"http://{cluster.address}/#/job/running")
        self.name = name_of_job(pipeline)
        self._pipeline = pipeline
        self._cluster = cluster
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "job")
        self._asked: Future[list[str]] | None = None
        self._replaces = False

    def program(self) -> Command:
        options = ["--replace"] if self._replaces else []
        options += ["--pipeline", self._pipeline] if self._pipeline else []
        self._replaces = False
        return Command([sys.executable, "-m", "embedstream", "submit", *options], self._cluster.env, doing="submitting")

    def is_ready(self) -> bool:
        return False

    def look(self) -> Finding | Literal["unknown", "behind"]:
        """What the JobManager knows of the job. One that somebody stopped is left alone, or
        `embedstream submit --replace` would meet a second one. `behind` where its table went back in time: the next
        program replaces it.
        """
        answer = self._cluster.get("/jobs/overview")
        if answer is None:
            return "unknown"
        finding = judge(jobs_named(answer, self._settings.flink_job_name))
        if finding == "runs" and self._has_forgotten():
            self._replaces = True
            return "behind"
        return finding

    def _has_forgotten(self) -> bool:
        """What the database said last; it is asked beside the supervisor, which must not wait for it."""
        if self._asked is None:
            self._asked = self._thread.submit(forgotten, self._settings)
        if not self._asked.done():
            return False
        lines, self._asked = self._asked.result(), None
        return bool(lines)

    def before_stop(self) -> str | None:
        """Stop with a savepoint: what has been read is stored, and most of it not read again at the next start."""
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
