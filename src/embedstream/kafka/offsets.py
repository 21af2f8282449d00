"""The ends of a topic's partitions, as a reader of committed records has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config

if TYPE_CHECKING:
    from embedstream.settings import Settings


def watermarks(settings: Settings, consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    first, end = asked(settings, lambda: consumer.get_watermark_offsets(partition, timeout=client.TIMEOUT))
    return first, end


def count(settings: Settings, topic: str) -> int:
    """Records that a topic holds; 0 where it does not exist."""
    return sum(end - first for first, end in extent(settings, topic).values())


def extent(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition, without what an open transaction holds back; empty without a topic."""
    with Consumer({**client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        found = asked(settings, lambda: consumer.list_topics(timeout=client.TIMEOUT)).topics.get(topic)
        numbers = sorted(found.partitions) if found else []
        return {number: watermarks(settings, consumer, TopicPartition(topic, number)) for number in numbers}
