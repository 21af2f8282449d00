"""Records of a topic between two offsets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from embedstream.errors import ConfigError
from embedstream.kafka import client_config, is_end, reader, topic_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from confluent_kafka import Consumer, Message

    from embedstream.settings import Settings

# Records are held in memory by the batch, and each may be as large as the broker takes.
_BATCH = 256
_PATIENCE = 30.0
_NEAR = 1000


class Range(NamedTuple):
    """Offsets of a partition from `first` up to, but without, `end`."""

    partition: int
    first: int
    end: int


def read(
    settings: Settings, topic: str, ranges: Iterable[Range], isolation: str = "read_committed"
) -> Iterator[list[Message]]:
    """What consumers of that isolation see of the ranges; offsets that hold no record are passed over."""
    ranges = list(ranges)
    ends = {each.partition: each.end for each in ranges if each.end > each.first}
    starts = [TopicPartition(topic, each.partition, each.first) for each in ranges if each.partition in ends]
    with reader(settings, **{"isolation.level": isolation}) as consumer:
        consumer.assign(starts)
        while ends:
            yield _within(consumer, topic, ends, _consume(settings, consumer))


def _within(consumer: Consumer, topic: str, ends: dict[int, int], messages: Sequence[Message]) -> list[Message]:
    """The messages that lie in the ranges; forgets the partitions that are read to their end."""
    records = []
    for message in messages:
        partition, offset = _place(message)
        end = ends.get(partition, 0)
        if message.error() is None and offset < end:
            records.append(message)
        if partition in ends and offset >= (end if message.error() else end - 1):
            del ends[partition]
            consumer.pause([TopicPartition(topic, partition)])
    return records


def fetch(
    settings: Settings, topic: str, places: Iterable[tuple[int, int]], isolation: str = "read_committed"
) -> Iterator[Message]:
    """The records at (partition, offset), in that order; those that are gone meanwhile are left out."""
    with reader(settings, **{"isolation.level": isolation}) as consumer:
        current, position = -1, 0
        for partition, offset in places:
            if partition != current or not position <= offset < position + _NEAR:
                consumer.assign([TopicPartition(topic, partition, offset)])
            current, position = partition, offset + 1
            message = _at(settings, consumer, offset)
            if message is not None:
                yield message
            else:
                current = -1


def _at(settings: Settings, consumer: Consumer, wanted: int) -> Message | None:
    while True:
        (message,) = _consume(settings, consumer, 1)
        _, offset = _place(message)
        if message.error() is None and offset == wanted:
            return message
        if message.error() is not None or offset > wanted:
            return None


def is_compacted(settings: Settings, topic: str) -> bool:
    """Whether the broker drops records that have a successor; False where it does not tell."""
    try:
        return "compact" in topic_config(AdminClient(client_config(settings)), topic)["cleanup.policy"]
    except (KafkaException, KeyError):
        return False


def _consume(settings: Settings, consumer: Consumer, count: int = _BATCH) -> list[Message]:
    """At least one message, or end of a partition; raises ConfigError where none comes for a while."""
    deadline = time.monotonic() + _PATIENCE
    trouble = "no record came"
    while time.monotonic() < deadline:
        messages = consumer.consume(count, 0.01) or consumer.consume(1, 1.0)
        useful = [message for message in messages if not (error := message.error()) or is_end(error)]
        if useful:
            return useful
        trouble = next((error.str() for message in messages if (error := message.error())), trouble)
    raise ConfigError(f"Kafka at {settings.kafka_bootstrap_servers}: {trouble}: check KAFKA_BOOTSTRAP_SERVERS")


def _place(message: Message) -> tuple[int, int]:
    """Partition and offset; (-1, -1) of what is about none."""
    place: tuple[Any, Any] = (message.partition(), message.offset())
    return (-1, -1) if None in place else place
