"""Kafka: reachable, with topics that can take what the job reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin._acl import AclOperation

from embedstream import kafka
from embedstream.doctor.check import Check, Verdict, fail, ok, skipped, span, warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.doctor.world import World

_HEADERS_BYTES = 64 * 1024


def _reachable(world: World) -> Verdict:
    address = world.settings.kafka_bootstrap_servers
    try:
        return ok(f"{address} shows {len(world.partitions)} topics")
    except KafkaException as exc:
        return fail(f"no Kafka answers at {address}: {exc.args[0].str()}", "start it, or check KAFKA_*")


def _input_topic(world: World) -> Verdict:
    return _topic(world, world.settings.kafka_input_topic)


def _dead_letter_topic(world: World) -> Verdict:
    return _topic(world, world.settings.kafka_dead_letter_topic)


def _topic(world: World, topic: str) -> Verdict:
    if topic in world.partitions:
        return ok(f"{topic} has {world.partitions[topic]} partitions")
    rights = world.admin.describe_cluster(
        include_authorized_operations=True, request_timeout=kafka.client.TIMEOUT
    ).result()
    if _lacks(rights.authorized_operations, AclOperation.CREATE):
        return warn(
            f"there is no topic {topic}, and the broker does not let us create topics in general",
            "create it, or allow the operation Create to the Kafka user",
        )
    return ok(f"{topic} will be created by submit")


def _partitions(world: World) -> Verdict:
    number, slots = world.partitions.get(world.settings.kafka_input_topic), world.settings.flink_parallelism
    if number is None:
        return ok(f"submit creates {slots}, one for each slot")
    if number < slots:
        return warn(
            f"{number} partitions feed {slots} slots, so {slots - number} of them idle",
            "add partitions, or lower FLINK_PARALLELISM",
        )
    return ok(f"{number} partitions for {slots} slots")


def _rights(world: World) -> Verdict:
    settings = world.settings
    wanted = {settings.kafka_input_topic: AclOperation.READ, settings.kafka_dead_letter_topic: AclOperation.WRITE}
    there = [topic for topic in wanted if topic in world.partitions]
    if not there:
        return skipped("neither topic exists yet")
    futures = world.admin.describe_topics(
        TopicCollection(there), include_authorized_operations=True, request_timeout=kafka.client.TIMEOUT
    )
    rights = {topic: future.result().authorized_operations for topic, future in futures.items()}
    lacking = [f"{wanted[topic].name} on {topic}" for topic in there if _lacks(rights[topic], wanted[topic])]
    if lacking:
        return fail(f"the broker does not allow {', '.join(lacking)}", "add the ACLs for the Kafka user")
    if not all(rights.values()):
        return skipped("the broker does not tell")
    return ok(f"may {', '.join(f'{wanted[topic].name} {topic}' for topic in there)}")


def _lacks(operations: Any, wanted: AclOperation) -> bool:  # noqa: ANN401 - untyped upstream
    """Whether the broker says so; it may tell nothing at all."""
    return bool(operations) and wanted not in operations and AclOperation.ALL not in operations


def _dead_letter_size(world: World) -> Verdict:
    """A dead letter is its message with headers of ours, and may compress less well than the producer had it."""
    limit = int(world.dead_letter_config["max.message.bytes"])
    remedy = f"set max.message.bytes of the dead-letter topic to {kafka.LARGEST_DEAD_LETTER}"
    if limit >= kafka.LARGEST_DEAD_LETTER:
        return ok(f"takes dead letters of {limit} bytes")
    of_input = world.input_config["max.message.bytes"] if world.settings.kafka_input_topic in world.partitions else 0
    if limit < int(of_input) + _HEADERS_BYTES:
        return fail(f"takes {limit} bytes, but the input topic's messages may have {of_input} and headers", remedy)
    return warn(f"takes {limit} bytes: a message that was compressed well may not fit", remedy)


def _dead_letter_cleanup(world: World) -> Verdict:
    policy, retention = world.dead_letter_config["cleanup.policy"], int(world.dead_letter_config["retention.ms"])
    if "compact" in policy:
        return fail(
            f"cleanup.policy is {policy}, which refuses dead letters without a key and keeps one of each key",
            "set cleanup.policy=delete and retention.ms=-1 on the dead-letter topic",
        )
    if retention >= 0:
        return warn(f"dead letters are deleted after {span(retention / 1000)}", "set its retention.ms to -1")
    return ok("dead letters stay until somebody deletes them")


def _on(setting: str, look: Callable[[World], Verdict]) -> Callable[[World], Verdict]:
    """The check for a topic that exists; submit creates one that fits."""

    def check(world: World) -> Verdict:
        topic = getattr(world.settings, setting)
        return look(world) if topic in world.partitions else skipped(f"there is no topic {topic} yet")

    return check


_INPUT, _DEAD = "kafka_input_topic", "kafka_dead_letter_topic"
_REACHABLE = ("broker.reachable",)
CHECKS = (
    Check("broker.reachable", _reachable),
    Check("broker.input_topic", _input_topic, _REACHABLE),
    Check("broker.partitions", _partitions, _REACHABLE),
    Check("broker.dead_letter_topic", _dead_letter_topic, _REACHABLE),
    Check("broker.dead_letter_size", _on(_DEAD, _dead_letter_size), _REACHABLE),
    Check("broker.dead_letter_cleanup", _on(_DEAD, _dead_letter_cleanup), _REACHABLE),
    Check("broker.rights", _rights, _REACHABLE),
)
