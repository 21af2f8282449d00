"""An embedded stack of its own for a run, with jobs side by side in its cluster."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedstream import flink, store
from embedstream.errors import EmbedstreamError
from embedstream.local.part import running
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.local.postgres import Postgres
from embedstream.local.service import Service
from embedstream.local.stack import environment
from embedstream.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOTS_OF_A_JOB = 2


@dataclass(frozen=True)
class Stack:
    """`locations` leads Flink's own programs to the cluster; `directory` is what the stack keeps its files in."""

    settings: Settings
    locations: dict[str, str]
    directory: Path

    def pids(self) -> dict[str, int]:
        """Of each part its first process."""
        parts = json.loads(_local({}, "status", "--json", "--dir", str(self.directory)))["parts"]
        return {part["name"]: part["pid"] for part in parts if part["pid"]}

    def named(self, name: str, **changes: Any) -> Settings:
        """Settings with a topic, a dead-letter topic, a table, a group and a job of that name."""
        own = {
            "kafka_input_topic": f"{name}-messages",
            "kafka_dead_letter_topic": f"{name}-dead-letters",
            "kafka_group_id": name,
            "pgvector_table": f"{name}_embeddings",
            "flink_job_name": name,
        }
        return self.settings.model_copy(update={**own, **changes})

    @contextmanager
    def running_job(self, settings: Settings, *submit: str) -> Iterator[Settings]:
        """The job that a command submits (`embedstream submit` unless told otherwise), cancelled after the block."""
        programs = {name: value for name, value in self.locations.items() if name.lower() not in Settings.model_fields}
        env = {**environment(settings), **programs}
        _run(list(submit) or [sys.executable, "-m", "embedstream", "submit"], env)
        try:
            yield settings
        finally:
            cluster = flink.Cluster(settings)
            if job := cluster.job(settings.flink_job_name):
                cluster.cancel(job)


@contextmanager
def running_stack(directory: Path, jobs: int) -> Iterator[Stack]:
    """Kafka, PostgreSQL, Flink and the service with the default model; slots for so many jobs, and none submitted."""
    home = directory / "stack"
    _keep_commit_times(home)
    slots = {"FLINK_PARALLELISM": str(jobs * SLOTS_OF_A_JOB)}
    try:
        _local(slots, "up", "--detach", "--no-job", "--dir", str(home))
        exported = _exported(home)
        settings = {name.lower(): value for name, value in exported.items() if name.lower() in Settings.model_fields}
        yield Stack(load_settings(**{**settings, "flink_parallelism": SLOTS_OF_A_JOB}), exported, home)
    finally:
        _local(slots, "down", "--dir", str(home))


def _keep_commit_times(home: Path) -> None:
    """Make the database, and have it note when each transaction was committed: `pg_xact_commit_timestamp(xmin)`."""
    settings = load_settings(pgvector_host=LOOPBACK, pgvector_port=free_port(), pgvector_password=None)
    server = Postgres(
        home / "postgres", settings.pgvector_port, settings.pgvector_db, home / "logs" / "first-start.log"
    )
    with running(server), store.connect(settings) as connection:
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")


def _local(extra: dict[str, str], *arguments: str) -> str:
    return _run([sys.executable, "-m", "embedstream", "local", *arguments], {**os.environ, **extra})


def _run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmbedstreamError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _exported(home: Path) -> dict[str, str]:
    lines = shlex.split(_local({}, "env", "--dir", str(home)).replace("export ", ""))
    return dict(line.split("=", 1) for line in lines)


@contextmanager
def running_service(directory: Path, model: str) -> Iterator[str]:
    """The address of an embedding service of its own."""
    port = free_port()
    settings = load_settings(
        embedding_model=model,
        embedding_host=LOOPBACK,
        embedding_port=port,
        embedding_service_url=f"http://{LOOPBACK}:{port}",
    )
    with running(Service(settings, environment(settings), directory / f"service-{port}.log")):
        yield settings.embedding_service_url
