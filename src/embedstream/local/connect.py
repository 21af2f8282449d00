"""Kafka Connect in one process (standalone) with Debezium's PostgreSQL connector: for those who ask for it."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

from embedstream.errors import ConfigError
from embedstream.jars import jar_paths, missing_jars
from embedstream.local.files import write_whole
from embedstream.local.kafka import jar_download, java_command
from embedstream.local.part import Part
from embedstream.local.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from embedstream.local.process import Command
    from embedstream.settings import Settings

HEAP_MB = 256
_MOST_SHOWN = 150
_SAYS_WHERE = re.compile(r"^\s*database\.hostname\s*[=:]", re.MULTILINE)


class Connect(Part):
    """Runs the connectors whose files were given to `keep`; reading goes on where it was."""

    name = "connect"
    needs = ("registry", "postgres", "kafka")
    is_kept_trying: ClassVar[bool] = True
    start_seconds: ClassVar[float] = 120.0

    def __init__(self, directory: Path, settings: Settings, port: int, cache: Path, log: Path) -> None:
        super().__init__(log, f"http://{LOOPBACK}:{port}")
        self._directory = directory
        self._settings = settings
        self._port = port
        self._cache = cache

    def preparations(self) -> Sequence[Command]:
        return [
            jar_download(section, len(missing), self._cache)
            for section in ("kafka", "connect")
            if (missing := missing_jars(section, self._cache))
        ]

    def program(self) -> Command:
        complete = self._directory / "complete"
        complete.mkdir(exist_ok=True)
        files = [complete / "worker.properties"]
        write_whole(files[0], _properties(self._worker()))
        for kept in kept_connectors(self._directory):
            files.append(complete / f"connector-{kept.name}")
            write_whole(files[-1], self._completed(kept))
        jars = [*jar_paths("kafka", self._cache), *jar_paths("connect", self._cache)]
        main_class = "org.apache.kafka.connect.cli.ConnectStandalone"
        return java_command(jars, HEAP_MB, main_class, *(str(file) for file in files))

    def is_ready(self) -> bool:
        states = [task["state"] for status in self._statuses() for task in status["tasks"]]
        return len(states) >= len(kept_connectors(self._directory)) and set(states) == {"RUNNING"}

    def trouble(self) -> str | None:
        """A connector whose task has failed stays so, in a process that goes on."""
        for status in self._statuses():
            for each in (status["connector"], *status["tasks"]):
                if each["state"] == "FAILED":
                    return f"connector {status['name']} failed: {_reason(each.get('trace', ''))}"
        return None

    def _statuses(self) -> list[dict[str, Any]]:
        try:
            answer = httpx.get(f"{self.address}/connectors?expand=status", timeout=1.0, trust_env=False)
            return [each["status"] for each in answer.json().values()] if answer.is_success else []
        except (httpx.HTTPError, ValueError):
            return []

    def _worker(self) -> dict[str, object]:
        json = "org.apache.kafka.connect.json.JsonConverter"
        return {
            "bootstrap.servers": self._settings.kafka_bootstrap_servers,
            "listeners": self.address,
            "key.converter": json,
            "key.converter.schemas.enable": "false",
            "value.converter": json,
            "value.converter.schemas.enable": "false",
            "offset.storage.file.filename": self._directory / "offsets",
            "offset.flush.interval.ms": 1000,
            # What is there stands on the class path; a search through all of it would take seconds.
            "plugin.discovery": "service_load",
        }

    def _completed(self, kept: Path) -> str:
        """The stack's own words first: of two lines for one name, Java takes the last."""
        text = kept.read_text(encoding="utf-8")
        defaults = {
            "name": kept.stem,
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            # Of all tables, the connector would have to read what the job writes.
            "publication.autocreate.mode": "filtered",
            # Without it the slot stands still, and keeps WAL, while only other tables change.
            "lsn.flush.mode": "connector_and_driver",
            "heartbeat.interval.ms": 10_000,
            "topic.creation.default.replication.factor": -1,
            "topic.creation.default.partitions": self._settings.flink_parallelism,
        }
        if not _SAYS_WHERE.search(text):
            defaults |= self._database()
        return f"{_properties(defaults)}{text}\n"

    def _database(self) -> dict[str, object]:
        settings = self._settings
        return {
            "database.hostname": settings.pgvector_host,
            "database.port": settings.pgvector_port,
            "database.user": settings.pgvector_user,
            "database.dbname": settings.pgvector_db,
            "database.sslmode": settings.pgvector_sslmode,
        }


def keep(files: Sequence[Path], directory: Path) -> None:
    """Take these files for the connectors from now on, in place of those before; without any, see that there are some.

    Raises ConfigError.
    """
    if files:
        texts = _read(files)
        shutil.rmtree(directory / "connectors", ignore_errors=True)
        (directory / "connectors").mkdir(parents=True)
        for name, text in texts.items():
            write_whole(directory / "connectors" / name, text)
    elif not kept_connectors(directory):
        raise ConfigError("part connect has no connector: name a file of its properties with --connector")


def _read(files: Sequence[Path]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in files:
        name = f"{file.stem}.properties"
        if name in texts:
            raise ConfigError(f"--connector: two files are called {file.stem}, which is the name of the connector")
        try:
            texts[name] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"--connector {file} cannot be read: {exc}") from exc
    return texts


def kept_connectors(directory: Path) -> list[Path]:
    return sorted((directory / "connectors").glob("*.properties"))


def _properties(facts: Mapping[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in facts.items())


def _reason(trace: str) -> str:
    """What a stack trace begins with, and where it comes from."""
    lines = [line.strip() for line in trace.splitlines() if line.strip() and not line.startswith("\tat ")]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return " because of ".join(_shortened(each) for each in [*lines[:1], *causes[-1:]]) or "Connect does not say why"


def _shortened(text: str) -> str:
    """Debezium says what is wrong last."""
    return text if len(text) <= 2 * _MOST_SHOWN else f"{text[:_MOST_SHOWN]} ... {text[-_MOST_SHOWN:]}"
