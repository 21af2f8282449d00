"""Three brokers that replicate, each of which can be killed and brought back."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient

from embedstream.jars import cache_directory
from embedstream.local.kafka import Kafka
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.local.process import Child
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedstream.local.process import Command

CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAQ"
READY_SECONDS = 120


class Replica(Kafka):
    """A broker that is one of three voters."""

    def __init__(self, directory: Path, number: int, ports: list[tuple[int, int]]) -> None:
        port, controller_port = ports[number - 1]
        super().__init__(directory, port, controller_port, cache_directory(load_settings()), directory / "kafka.log")
        self.number = number
        self._voters = ",".join(f"{node}@{LOOPBACK}:{voter}" for node, (_, voter) in enumerate(ports, 1))
        self._child: Child | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        for command in self.preparations():
            assert Child(command, self.log).wait() == 0
        self._child = Child(self.program(), self.log)

    def kill(self) -> None:
        assert self._child
        os.killpg(self._child.id.pid, signal.SIGKILL)
        self._child.wait()

    def end(self) -> None:
        if self._child:
            self._child.end()

    def _java(self, main_class: str, *arguments: str, doing: str = "starting") -> Command:
        if arguments[0] == "format":
            arguments = ("format", "-t", CLUSTER_ID, *arguments[3:])
        return super()._java(main_class, *arguments, doing=doing)

    def _write_properties(self, data: Path) -> None:
        super()._write_properties(data)
        more = {
            "node.id": self.number, "controller.quorum.voters": self._voters, "default.replication.factor": 3,
            "min.insync.replicas": 2, "offsets.topic.replication.factor": 3,
            "transaction.state.log.replication.factor": 3, "transaction.state.log.min.isr": 2,
        }  # fmt: skip
        with self._properties.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in more.items())


class ThreeBrokers:
    def __init__(self, brokers: list[Replica]) -> None:
        self._brokers = {broker.number: broker for broker in brokers}
        self.bootstrap_servers = ",".join(broker.address for broker in brokers)
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def leader(self, topic: str, partition: int) -> Replica:
        return self._brokers[self._admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader]

    def await_replicas(self, topic: str) -> None:
        """Until every replica of the topic is in sync again."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            partitions = self._admin.list_topics(topic, timeout=10).topics[topic].partitions.values()
            if partitions and all(len(each.isrs) == 3 for each in partitions):
                return
            time.sleep(0.2)
        raise AssertionError(f"not every replica of {topic} came back")


@contextmanager
def three_brokers(directory: Path) -> Iterator[ThreeBrokers]:
    ports: list[int] = []
    for _ in range(6):
        ports.append(free_port(avoid=frozenset(ports)))
    pairs = list(zip(ports[:3], ports[3:], strict=True))
    brokers = [Replica(directory / str(number), number, pairs) for number in (1, 2, 3)]
    try:
        for broker in brokers:
            broker.start()
        deadline = time.monotonic() + READY_SECONDS
        while not all(broker.is_ready() for broker in brokers):
            assert time.monotonic() < deadline, "the brokers are not ready"
            time.sleep(0.2)
        yield ThreeBrokers(brokers)
    finally:
        for broker in brokers:
            broker.end()
