"""Kafka, over confluent-kafka: topics, offsets, reading and sending."""

from embedstream.kafka import client
from embedstream.kafka.client import PASSING, client_config
from embedstream.kafka.log import Position, count, extent, positions
from embedstream.kafka.producing import LARGEST_MESSAGE, Outgoing, Undelivered, produce
from embedstream.kafka.reading import first_records, headers_of, is_end, read, reader, tail
from embedstream.kafka.topics import LARGEST_DEAD_LETTER, ensure_topics, largest_batch, topic_config

__all__ = [
    "LARGEST_DEAD_LETTER",
    "LARGEST_MESSAGE",
    "PASSING",
    "Outgoing",
    "Position",
    "Undelivered",
    "client",
    "client_config",
    "count",
    "ensure_topics",
    "extent",
    "first_records",
    "headers_of",
    "is_end",
    "largest_batch",
    "positions",
    "produce",
    "read",
    "reader",
    "tail",
    "topic_config",
]
