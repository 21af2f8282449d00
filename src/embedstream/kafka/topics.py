"""Topics: made where they are missing, and their configuration."""

from __future__ import annotations

import base64
import logging
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
    from collections.abc import Callable, Iterator, Mapping

    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

_DAY_MS = 24 * 60 * 60 * 1000
_MIB = 1024 * 1024
# Well above any message: the broker's limit is on compressed batches, the sink's on what goes into them.
LARGEST_DEAD_LETTER = 64 * _MIB

Wishes = dict[str, tuple[str, ...]]
"""The values that a configuration may have, best first; where none is allowed the broker's default stays."""

_OF_THE_INPUT: Wishes = {"retention.ms": tuple(str(days * _DAY_MS) for days in (30, 14, 7))}
_OF_DEAD_LETTERS: Wishes = {
    "retention.ms": ("-1", *(str(days * _DAY_MS) for days in (365, 90, 30, 14, 7))),
    "max.message.bytes": tuple(
        str(size) for size in (LARGEST_DEAD_LETTER + _MIB, *(mib * _MIB for mib in (32, 20, 16, 10, 8, 4, 2)))
    ),
}
_FOLLOWS = {
    "retention.ms": "records that are older are deleted, read or not",
    "max.message.bytes": "a dead letter that is larger cannot be written",
}
AGAINST_A_POLICY = frozenset({KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG})

_HIDDEN = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_REQUEST,
        KafkaError.UNSUPPORTED_VERSION,
    }
)
"""What brokers answer that tell no configuration: to this user, or to anybody."""

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
    described = asked(settings, lambda: _described(admin, topic).result())
    return Identity(found.cluster_id, _printed(described.topic_id))


def _described(admin: AdminClient, topic: str) -> Any:  # noqa: ANN401 - untyped upstream
    return admin.describe_topics(TopicCollection([topic]), request_timeout=client.TIMEOUT)[topic]


def _printed(id: Any) -> str | None:  # noqa: ANN401 - untyped upstream
    """As Kafka's own tools print it: 16 bytes in URL-safe base64 without padding; None for zeros."""
    mask = (1 << 64) - 1
    number = (id.get_most_significant_bits() & mask) << 64 | id.get_least_significant_bits() & mask
    return base64.urlsafe_b64encode(number.to_bytes(16)).decode().rstrip("=") if number else None


def ensure_topics(settings: Settings, warn: Callable[[str], object] = logger.warning) -> list[str]:
    """Create the topics that are missing, and return their names.

    The input keeps its records for 30 days, dead letters stay until somebody deletes them; a dead letter may be
    larger than any message, since it carries headers of ours. Where the cluster's policy refuses a value, the topic
    gets the best that it allows, and `warn` is told so in one line.
    """
    admin = AdminClient(client_config(settings))
    existing = asked(settings, lambda: admin.list_topics(timeout=client.TIMEOUT)).topics
    missing = [topic for topic in _wanted(settings) if topic not in existing]
    return [topic for topic in missing if _make(settings, admin, topic, warn)]


def refusal(settings: Settings, admin: AdminClient, topic: str) -> KafkaError | None:
    """What the broker would answer if `ensure_topics` asked for this topic; None where it would make it."""
    partitions, wishes = _wanted(settings)[topic]
    new = _new(topic, partitions, {name: values[0] for name, values in wishes.items()})
    try:
        admin.create_topics([new], validate_only=True)[topic].result(client.TIMEOUT)
    except KafkaException as exc:
        error: KafkaError = exc.args[0]
        return error
    return None


def _wanted(settings: Settings) -> dict[str, tuple[int, Wishes]]:
    return {
        settings.kafka_input_topic: (settings.flink_parallelism, _OF_THE_INPUT),
        settings.kafka_dead_letter_topic: (1, _OF_DEAD_LETTERS),
    }


def _new(topic: str, partitions: int, config: Mapping[str, str]) -> NewTopic:
    return NewTopic(topic, num_partitions=partitions, replication_factor=-1, config=dict(config))


def _make(settings: Settings, admin: AdminClient, topic: str, warn: Callable[[str], object]) -> bool:
    """Whether it was us who made it: somebody else may have, or the broker did not show it."""
    partitions, wishes = _wanted(settings)[topic]
    config = {name: values[0] for name, values in wishes.items()}
    try:
        return _create(admin, topic, partitions, config)
    except KafkaException as exc:
        if exc.args[0].code() not in AGAINST_A_POLICY:
            raise _not_created(settings, topic, exc) from exc
        refusal = exc.args[0].str()
        config = dict(_allowed(admin, topic, partitions, wishes))
        try:
            made = _create(admin, topic, partitions, config)
        except KafkaException as again:
            raise _not_created(settings, topic, again) from again
        warn(_less(topic, wishes, config, refusal))
        return made


def _allowed(admin: AdminClient, topic: str, partitions: int, wishes: Wishes) -> Iterator[tuple[str, str]]:
    """The best value of each configuration that the broker takes by itself."""
    for name, values in wishes.items():
        for value in values:
            try:
                _create(admin, topic, partitions, {name: value}, validate_only=True)
            except KafkaException as exc:
                if exc.args[0].code() not in AGAINST_A_POLICY:
                    return
            else:
                yield name, value
                break


def _create(
    admin: AdminClient, topic: str, partitions: int, config: Mapping[str, str], *, validate_only: bool = False
) -> bool:
    """Whether there was none; raises KafkaException."""
    new = _new(topic, partitions, config)
    try:
        client.patiently(lambda: admin.create_topics([new], validate_only=validate_only)[topic].result(client.TIMEOUT))
    except KafkaException as exc:
        if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        return False
    return True


def _not_created(settings: Settings, topic: str, exc: KafkaException) -> ConfigError:
    return ConfigError(
        f"topic {topic} cannot be created: Kafka at {settings.kafka_bootstrap_servers}: "
        f"{client.trouble(settings, exc)}: create it yourself, or allow the operation Create to the Kafka user"
    )


def _less(topic: str, wishes: Wishes, config: Mapping[str, str], refusal: str) -> str:
    less = [
        f"{name} is {config.get(name, 'the default of the broker')} instead of {values[0]} ({_FOLLOWS[name]})"
        for name, values in wishes.items()
        if config.get(name) != values[0]
    ]
    return f"topic {topic}: the cluster refused what was asked for ({refusal}), so {'; '.join(less)}"


def topic_config(admin: AdminClient, topic: str) -> dict[str, str]:
    """The configuration that holds for a topic, as far as the broker shows it; empty where it shows none to us."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        entries: Any = admin.describe_configs([resource], request_timeout=client.TIMEOUT)[resource].result()
    except KafkaException as exc:
        if exc.args[0].code() in _HIDDEN:
            return {}
        raise
    return {name: str(entry.value) for name, entry in entries.items() if entry.value is not None}


def largest_record(settings: Settings, topic: str) -> int | None:
    """The `max.message.bytes` of a topic; None where the broker does not tell it."""
    try:
        return int(topic_config(AdminClient(client_config(settings)), topic)["max.message.bytes"])
    except (KafkaException, KeyError, ValueError):
        return None


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
