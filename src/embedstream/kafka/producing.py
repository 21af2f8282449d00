"""Sending records."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException, Producer

from embedstream.errors import ConfigError
from embedstream.kafka.client import client_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import KafkaError, Message

    from embedstream.settings import Settings

LARGEST_MESSAGE = 16 * 1024 * 1024


class Outgoing(NamedTuple):
    """A record to produce; `timestamp` in milliseconds since the epoch, None for now."""

    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, str | bytes | None]] | None = None
    timestamp: int | None = None
    partition: int | None = None


class Undelivered(ConfigError):
    """A record was refused, or the broker stays away; `position` counts from 0 what `produce` was given."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def produce(
    settings: Settings,
    topic: str,
    records: Iterable[Outgoing],
    on_sent: Callable[[int], None] = lambda _: None,
    on_delivered: Callable[[int, int, int], None] = lambda *_: None,
    *,
    compression: str = "lz4",
) -> int:
    """Send records, and return their number once the broker has acknowledged all of them.

    `on_sent` is told the count now and then, `on_delivered` each record's position in `records`, its partition and its
    offset. Raises Undelivered where a record is refused or the broker stays away; what was sent before it may have
    arrived.
    """
    producer = Producer(
        {**client_config(settings), "enable.idempotence": True, "compression.type": compression, "linger.ms": 20,
         "message.max.bytes": LARGEST_MESSAGE, "delivery.timeout.ms": 60_000,
         # As Java's producers choose it: a delete has to meet what another producer sent under the same key.
         "partitioner": "murmur2_random"}
    )  # fmt: skip
    # Of a batch that is refused, the largest record is most likely to blame.
    failures: list[tuple[int, int, str]] = []

    def delivered(position: int, size: int, error: KafkaError | None, message: Message) -> None:
        if error:
            failures.append((size, -position, error.str()))
        else:
            on_delivered(position, message.partition() or 0, message.offset() or 0)

    sent = 0
    try:
        for sent, record in enumerate(records, 1):
            _enqueue(producer, topic, record, partial(delivered, sent - 1, len(record.value or b"")))
            if failures:
                break
            on_sent(sent)
    finally:
        producer.flush()
    if failures:
        _, position, reason = max(failures)
        raise Undelivered(f"topic {topic} at {settings.kafka_bootstrap_servers}: {reason}", -position)
    return sent


def _enqueue(producer: Producer, topic: str, record: Outgoing, delivered: Callable[[Any, Any], None]) -> None:
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
            delivered(exc.args[0], None)
            return
