"""Sending records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from embedstream.errors import ConfigError
from embedstream.kafka.client import client_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from embedstream.settings import Settings

LARGEST_MESSAGE = 16 * 1024 * 1024


class Outgoing(NamedTuple):
    """A record to produce; `timestamp` in milliseconds since the epoch, None for now."""

    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, str | bytes | None]] | None = None
    timestamp: int | None = None
    partition: int | None = None


def produce(
    settings: Settings, topic: str, records: Iterable[Outgoing], on_sent: Callable[[int], None] = lambda _: None
) -> int:
    """Send records, and return their number once the broker has acknowledged all of them.

    `on_sent` is told the count now and then. Raises ConfigError where a record is refused or the broker stays away;
    what was sent before it may have arrived.
    """
    producer = Producer(
        {**client_config(settings), "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 20,
         "message.max.bytes": LARGEST_MESSAGE, "delivery.timeout.ms": 60_000}
    )  # fmt: skip
    failures: list[KafkaError] = []
    sent = 0
    try:
        for sent, record in enumerate(records, 1):
            _enqueue(producer, topic, record, failures)
            if failures:
                break
            on_sent(sent)
    finally:
        producer.flush()
    if failures:
        raise ConfigError(f"topic {topic} at {settings.kafka_bootstrap_servers}: {failures[0].str()}")
    return sent


def _enqueue(producer: Producer, topic: str, record: Outgoing, failures: list[KafkaError]) -> None:
    def delivered(error: KafkaError | None, _: object) -> None:
        if error:
            failures.append(error)

    options: dict[str, Any] = {"on_delivery": delivered}
    if record.timestamp is not None:
        options["timestamp"] = record.timestamp
    if record.partition is not None:
        options["partition"] = record.partition
    while True:
        try:
            producer.produce(topic, record.value, record.key, headers=record.headers or [], **options)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)
        except KafkaException as exc:
            failures.append(exc.args[0])
            return
