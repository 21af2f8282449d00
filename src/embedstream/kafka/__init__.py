"""Kafka, over confluent-kafka: topics, offsets, reading and sending."""

from embedstream.kafka import client
from embedstream.kafka.client import PASSING, client_config
from embedstream.kafka.identity import Identity, identity
from embedstream.kafka.log import Head, Log, Member, Position, look, positions
from embedstream.kafka.offsets import count, extent
from embedstream.kafka.producing import LARGEST_MESSAGE, Outgoing, produce
from embedstream.kafka.reading import first_records, headers_of, is_end, read, reader, tail
from embedstream.kafka.topics import LARGEST_DEAD_LETTER, ensure_topics, topic_config

__all__ = [
    "LARGEST_DEAD_LETTER",
    "LARGEST_MESSAGE",
    "PASSING",
    "Head",
    "Identity",
    "Log",
    "Member",
    "Outgoing",
    "Position",
    "client",
    "client_config",
    "count",
    "ensure_topics",
    "extent",
    "first_records",
    "headers_of",
    "identity",
    "is_end",
    "look",
    "positions",
    "produce",
    "read",
    "reader",
    "tail",
    "topic_config",
]
