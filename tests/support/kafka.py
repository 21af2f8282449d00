"""A Kafka broker for the tests that need a real one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedstream.jars import cache_directory
from embedstream.local.kafka import Kafka
from embedstream.local.part import running
from embedstream.local.ports import free_port
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Patient(Kafka):
    """Tests send records of fixed times, which are older than what a topic keeps from some day on."""

    def _write_properties(self, data: Path) -> None:
        super()._write_properties(data)
        with self._properties.open("a") as file:
            file.write("log.retention.check.interval.ms=86400000\n")


@contextmanager
def kafka_broker(directory: Path) -> Iterator[str]:
    """Yield the bootstrap servers."""
    port = free_port()
    controller_port = free_port(avoid=frozenset({port}))
    broker = _Patient(directory, port, controller_port, cache_directory(load_settings()), directory / "kafka.log")
    with running(broker):
        yield broker.address
