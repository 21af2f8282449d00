"""The ends of a topic's partitions, as a reader of committed records has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstream.settings import Settings


def watermarks(settings: Settings, consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    first, end = asked(settings, lambda: consumer.get_watermark_offsets(partition, timeout=client.TIMEOUT))
    return first, end


def count(settings: Settings, topic: str) -> int:
    """Records that a topic holds; 0 where it does not exist."""
    return length(extent(settings, topic))


def extent(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition, without what an open transaction holds back; empty without a topic."""
    with Consumer({**client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        found = asked(settings, lambda: consumer.list_topics(timeout=client.TIMEOUT)).topics.get(topic)
        numbers = sorted(found.partitions) if found else []
        return {number: watermarks(settings, consumer, TopicPartition(topic, number)) for number in numbers}


def shares(sizes: Mapping[int, int], limit: int | None) -> dict[int, int]:
    """How many records of each partition, at most `limit` in all, as evenly as their sizes allow."""
    left, found = limit, {}
    for place, (number, size) in enumerate(sorted(sizes.items(), key=lambda each: each[1])):
        share = max(0, size) if left is None else min(max(0, size), left // (len(sizes) - place))
        found[number] = share
        left = None if left is None else left - share
    return found


def newest(ranges: Mapping[int, tuple[int, int]], limit: int) -> dict[int, tuple[int, int]]:
    """The ends of ranges of offsets by partition, at most so many offsets in all."""
    left = shares({number: end - first for number, (first, end) in ranges.items()}, limit)
    return {number: (end - left[number], end) for number, (_, end) in ranges.items()}


def length(ranges: Mapping[int, tuple[int, int]]) -> int:
    return sum(max(0, end - first) for first, end in ranges.values())
