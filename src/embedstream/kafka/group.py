"""The job's consumer group: its offsets are written where no member of it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from embedstream.errors import ConfigError
from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstream.settings import Settings

_REFUSED = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})


class Member(NamedTuple):
    """A consumer that subscribed with the group of the job, and commits in its place."""

    client_id: str
    host: str

    def __str__(self) -> str:
        return f"{self.client_id} at {self.host.removeprefix('/')}"


def set_offsets(settings: Settings, offsets: Mapping[int, int]) -> None:
    """Have the group stand at these offsets of the input topic, by partition.

    Raises ConfigError where it has members that subscribed, with their names.
    """
    if not offsets:
        return
    check_members(settings)
    admin, group = AdminClient(client_config(settings)), settings.kafka_group_id
    places = [TopicPartition(settings.kafka_input_topic, *place) for place in offsets.items()]
    wanted = [ConsumerGroupTopicPartitions(group, places)]
    (future,) = admin.alter_consumer_group_offsets(wanted, request_timeout=client.TIMEOUT).values()
    asked(settings, future.result)


def check_members(settings: Settings) -> None:
    if found := members(settings):
        raise ConfigError(
            f"consumer group {settings.kafka_group_id} has members that subscribed ({', '.join(map(str, found))}), "
            "which commit in the job's place: stop them, or set KAFKA_GROUP_ID to a group of the job's own"
        )


def members(settings: Settings) -> list[Member] | None:
    """The consumers that subscribed with the group; the job is none of them, it takes its partitions by itself."""
    admin, group = AdminClient(client_config(settings)), settings.kafka_group_id
    try:
        found = asked(settings, lambda: _described(admin, group))
    except ConfigError as exc:
        return _none_or_unknown(exc)
    if found.state == ConsumerGroupState.DEAD:
        return []
    return [Member(member.client_id, member.host) for member in found.members]


def _described(admin: AdminClient, group: str) -> Any:  # noqa: ANN401 - untyped upstream
    return admin.describe_consumer_groups([group], request_timeout=client.TIMEOUT)[group].result()


def _none_or_unknown(exc: ConfigError) -> list[Member] | None:
    cause = exc.__cause__
    code = cause.args[0].code() if isinstance(cause, KafkaException) else None
    if code == KafkaError.GROUP_ID_NOT_FOUND:
        return []
    if code in _REFUSED:
        return None
    raise exc
