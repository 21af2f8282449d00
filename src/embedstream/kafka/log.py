"""The log of a topic: its ends, and how far a group is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config

if TYPE_CHECKING:
    from embedstream.settings import Settings


class Position(NamedTuple):
    """Where a group stands in a partition: first and next offset of the log, and the next to read (None: not begun)."""

    partition: int
    first: int
    end: int
    committed: int | None

    @property
    def next(self) -> int:
        return max(self.first, self.committed if self.committed is not None else self.first)

    @property
    def lag(self) -> int:
        return self.end - self.next


def positions(settings: Settings) -> list[Position]:
    """How far the group is in each partition of the input topic; empty where there is no such topic."""
    topic = settings.kafka_input_topic
    with Consumer({**client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        found = asked(settings, lambda: consumer.list_topics(timeout=client.TIMEOUT)).topics.get(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(found.partitions)] if found else []
        if not partitions:
            return []
        committed = asked(settings, lambda: consumer.committed(partitions, timeout=client.TIMEOUT))
        ends = [watermarks(settings, consumer, partition) for partition in partitions]
    return [
        Position(place.partition, first, end, place.offset if place.offset >= 0 else None)
        for place, (first, end) in zip(committed, ends, strict=True)
    ]


def watermarks(settings: Settings, consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    first, end = asked(settings, lambda: _watermarks(consumer, partition))
    return first, end


def _watermarks(consumer: Consumer, partition: TopicPartition) -> Any:  # noqa: ANN401 - untyped upstream
    try:
        return consumer.get_watermark_offsets(partition, timeout=client.TIMEOUT)
    except KafkaException:
        # A broker that has just come back knows no topics for a moment; the client would keep that in mind.
        consumer.list_topics(partition.topic, timeout=client.TIMEOUT)
        raise


def count(settings: Settings, topic: str) -> int:
    """Records that a topic holds; 0 where it does not exist."""
    return sum(end - first for first, end in extent(settings, topic).values())


def extent(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition; empty where there is no such topic."""
    with Consumer({**client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        found = asked(settings, lambda: consumer.list_topics(timeout=client.TIMEOUT)).topics.get(topic)
        numbers = sorted(found.partitions) if found else []
        return {number: watermarks(settings, consumer, TopicPartition(topic, number)) for number in numbers}
