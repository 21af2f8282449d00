"""The job's consumer group: its offsets are written where no member of it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from embedstream.errors import ConfigError
from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstream.settings import Settings


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
            f"consumer group {settings.kafka_group_id} has members that subscribed ({', '.join(found)}), "
            "which commit in the job's place: stop them, or set KAFKA_GROUP_ID to a group of the job's own"
        )


def members(settings: Settings) -> list[str]:
    """Who subscribed with the job's group, as client id and host; Flink itself assigns, and is none of them."""
    admin, group = AdminClient(client_config(settings)), settings.kafka_group_id
    described = admin.describe_consumer_groups([group], request_timeout=client.TIMEOUT)[group]
    try:
        found = described.result()
    except KafkaException:  # what the broker does not tell is not known to be wrong
        return []
    return [f"{member.client_id} at {member.host.lstrip('/')}" for member in found.members]
