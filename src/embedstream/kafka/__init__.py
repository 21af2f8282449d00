"""Kafka, over confluent-kafka: topics, offsets, reading and sending."""

from embedstream.kafka import client
from embedstream.kafka.client import PASSING, client_config
from embedstream.kafka.group import Member, check_members, members, set_offsets
from embedstream.kafka.java import cluster_environment, java_config
from embedstream.kafka.log import Log, Position, look, positions
from embedstream.kafka.offsets import count, extent, length, newest, shares
from embedstream.kafka.producing import LARGEST_MESSAGE, Outgoing, Undelivered, produce
from embedstream.kafka.reading import Head, has_record, headers_of, is_end, read, reader, record_of, tail
from embedstream.kafka.topics import (
    AGAINST_A_POLICY,
    LARGEST_DEAD_LETTER,
    Identity,
    ensure_topics,
    identity,
    largest_batch,
    largest_record,
    refusal,
    topic_config,
)

__all__ = [
    "AGAINST_A_POLICY",
    "LARGEST_DEAD_LETTER",
    "LARGEST_MESSAGE",
    "PASSING",
    "Head",
    "Identity",
    "Log",
    "Member",
    "Outgoing",
    "Position",
    "Undelivered",
    "check_members",
    "client",
    "client_config",
    "cluster_environment",
    "count",
    "ensure_topics",
    "extent",
    "has_record",
    "headers_of",
    "identity",
    "is_end",
    "java_config",
    "largest_batch",
    "largest_record",
    "length",
    "look",
    "members",
    "newest",
    "positions",
    "produce",
    "read",
    "reader",
    "record_of",
    "refusal",
    "set_offsets",
    "shares",
    "tail",
    "topic_config",
]
