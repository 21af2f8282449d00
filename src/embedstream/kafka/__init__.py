"""Kafka, over confluent-kafka: topics, offsets, reading and sending."""

from embedstream.kafka import client
from embedstream.kafka.client import PASSING, client_config
from embedstream.kafka.java import cluster_environment, java_config
from embedstream.kafka.log import Position, count, extent, positions
from embedstream.kafka.producing import LARGEST_MESSAGE, Outgoing, produce
from embedstream.kafka.reading import first_records, headers_of, is_end, read, reader, tail
from embedstream.kafka.topics import AGAINST_A_POLICY, LARGEST_DEAD_LETTER, ensure_topics, refusal, topic_config

__all__ = [
    "AGAINST_A_POLICY",
    "LARGEST_DEAD_LETTER",
    "LARGEST_MESSAGE",
    "PASSING",
    "Outgoing",
    "Position",
    "client",
    "client_config",
    "cluster_environment",
    "count",
    "ensure_topics",
    "extent",
    "first_records",
    "headers_of",
    "is_end",
    "java_config",
    "positions",
    "produce",
    "read",
    "reader",
    "refusal",
    "tail",
    "topic_config",
]
