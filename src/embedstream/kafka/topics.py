"""Topics: made where they are missing, and their configuration."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from embedstream.errors import ConfigError
from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config
from embedstream.kafka.producing import LARGEST_MESSAGE

if TYPE_CHECKING:
    from embedstream.settings import Settings

_DAY_MS = 24 * 60 * 60 * 1000
# Well above any message: the broker's limit is on compressed batches, the sink's on what goes into them.
LARGEST_DEAD_LETTER = 64 * 1024 * 1024
# That nobody answers, rather than that a broker keeps its configuration to itself.
_SILENCE = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - there are no public names
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)


class Identity(NamedTuple):
    """What tells a topic from others of its name: ids that Kafka gives to clusters and topics, None where not told."""

    cluster_id: str | None
    topic_id: str | None


def identity(settings: Settings) -> Identity:
    """Of the input topic; its id is None where there is no such topic, or where the broker is older than 3.1."""
    admin, topic = AdminClient(client_config(settings)), settings.kafka_input_topic
    found = asked(settings, lambda: admin.list_topics(timeout=client.TIMEOUT))
    if topic not in found.topics:
        return Identity(found.cluster_id, None)
    described = admin.describe_topics(TopicCollection([topic]), request_timeout=client.TIMEOUT)[topic]
    return Identity(found.cluster_id, _printed(asked(settings, described.result).topic_id))


def _printed(id: Any) -> str | None:  # noqa: ANN401 - untyped upstream
    """As Kafka's own tools print it: 16 bytes in URL-safe base64 without padding; None for zeros."""
    mask = (1 << 64) - 1
    number = (id.get_most_significant_bits() & mask) << 64 | id.get_least_significant_bits() & mask
    return base64.urlsafe_b64encode(number.to_bytes(16)).decode().rstrip("=") if number else None


def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing, and return their names.

    The input keeps its records for 30 days, dead letters stay until somebody deletes them; a dead letter may be
    larger than any message, since it carries headers of ours.
    """
    admin = AdminClient(client_config(settings))
    existing = asked(settings, lambda: admin.list_topics(timeout=client.TIMEOUT)).topics
    wanted = [
        _topic(settings.kafka_input_topic, settings.flink_parallelism, {"retention.ms": str(30 * _DAY_MS)}),
        _topic(
            settings.kafka_dead_letter_topic,
            1,
            {"retention.ms": "-1", "max.message.bytes": str(LARGEST_DEAD_LETTER + 1024 * 1024)},
        ),
    ]
    missing = [topic for topic in wanted if topic.topic not in existing]
    for name, future in admin.create_topics(missing).items() if missing else ():
        _await_topic(settings, name, future)
    return [topic.topic for topic in missing]


def _topic(name: str, partitions: int, config: dict[str, str]) -> NewTopic:
    return NewTopic(name, num_partitions=partitions, replication_factor=-1, config=config)


def _await_topic(settings: Settings, name: str, future: Any) -> None:  # noqa: ANN401 - untyped upstream
    try:
        asked(settings, lambda: future.result(client.TIMEOUT))
    except ConfigError as exc:
        cause = exc.__cause__
        if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return
        raise ConfigError(f"topic {name} cannot be created: {exc}") from exc


def topic_config(admin: AdminClient, topic: str) -> dict[str, str]:
    """The configuration that holds for a topic; raises KafkaException where the broker does not tell."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = admin.describe_configs([resource], request_timeout=client.TIMEOUT)[resource].result()
    return {name: str(entry.value) for name, entry in entries.items()}


def largest_batch(settings: Settings, topic: str) -> int:
    """The most bytes of a compressed batch that the topic takes; what a producer sends at most where nobody tells.

    Raises ConfigError where no broker answers.
    """
    try:
        found = topic_config(AdminClient(client_config(settings)), topic).get("max.message.bytes", "")
    except KafkaException as exc:
        if exc.args[0].code() in _SILENCE:
            raise ConfigError(
                f"Kafka at {settings.kafka_bootstrap_servers}: {exc.args[0].str()}: check KAFKA_BOOTSTRAP_SERVERS"
            ) from exc
        return LARGEST_MESSAGE
    return min(int(found), LARGEST_MESSAGE) if found.isdecimal() else LARGEST_MESSAGE
