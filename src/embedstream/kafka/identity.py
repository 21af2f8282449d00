"""What tells a topic from others of its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config

if TYPE_CHECKING:
    from embedstream.settings import Settings


class Identity(NamedTuple):
    """The cluster, and the input topic, None where there is none; as Kafka prints them."""

    cluster_id: str
    topic_id: str | None


def identity(settings: Settings) -> Identity:
    admin, topic = AdminClient(client_config(settings)), settings.kafka_input_topic
    cluster = asked(settings, lambda: admin.describe_cluster(request_timeout=client.TIMEOUT).result())
    return Identity(cluster.cluster_id, asked(settings, lambda: _topic_id(admin, topic)))


def _topic_id(admin: AdminClient, topic: str) -> str | None:
    futures = admin.describe_topics(TopicCollection([topic]), request_timeout=client.TIMEOUT)
    try:
        found = str(futures[topic].result().topic_id)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    return found.translate(str.maketrans("+/", "-_", "=")) or None
