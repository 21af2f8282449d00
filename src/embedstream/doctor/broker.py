"""Kafka: reachable, with topics that can take what the job reads and writes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin._acl import AclOperation

from embedstream import kafka
from embedstream.doctor.check import Check, Verdict, fail, ok, skipped, span, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from embedstream.doctor.world import World

_HEADERS_BYTES = 64 * 1024
_NOT_SUPPORTED = frozenset(
    {KafkaError.UNSUPPORTED_VERSION, KafkaError.INVALID_REQUEST, KafkaError._UNSUPPORTED_FEATURE}  # noqa: SLF001
)
_DOES_NOT_TELL = _NOT_SUPPORTED | {KafkaError.GROUP_ID_NOT_FOUND}
# A right that is not one of the job's, so that the others are known to be missing.
_NONE = frozenset({AclOperation.DESCRIBE})


def _reachable(world: World) -> Verdict:
    address = world.settings.kafka_bootstrap_servers
    try:
        return ok(f"{address} shows {len(world.partitions)} topics")
    except KafkaException as exc:
        reason = kafka.client.trouble(world.settings, exc)
        return fail(f"no Kafka answers at {address}: {reason}", "start it, or check KAFKA_*")


def _login(world: World) -> Verdict:
    """Whether the job's client, which is another one than the tools', can use what is set."""
    settings = world.settings
    kafka.java_config(settings)
    if not settings.kafka_security_protocol.startswith("SASL"):
        return ok(f"the job talks {settings.kafka_security_protocol}")
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        option = kafka.java.allowed_urls(settings)
        return ok(f"the job logs in by OAUTHBEARER, where JobManager and TaskManagers are started with {option}")
    return ok(
        f"the job logs in by {settings.kafka_sasl_mechanism}, where JobManager and TaskManagers know user and password"
    )


def _input_topic(world: World) -> Verdict:
    return _topic(world, world.settings.kafka_input_topic)


def _dead_letter_topic(world: World) -> Verdict:
    return _topic(world, world.settings.kafka_dead_letter_topic)


def _topic(world: World, topic: str) -> Verdict:
    if topic in world.partitions:
        return ok(f"{topic} has {world.partitions[topic]} partitions")
    refusal = kafka.refusal(world.settings, world.admin, topic)
    if refusal is None:
        return ok(f"{topic} will be created by submit")
    if refusal.code() == KafkaError.TOPIC_ALREADY_EXISTS:
        return fail(f"{topic} exists, but the Kafka user may not see it", "allow the operation Describe on it")
    if refusal.code() in kafka.AGAINST_A_POLICY:
        return warn(
            f"{topic} cannot be as it should ({refusal.str()}): submit creates it with the best that is allowed",
            "or create it yourself",
        )
    if refusal.code() in _NOT_SUPPORTED:
        return warn(
            f"there is no topic {topic}, and the broker does not tell whether submit may create it", "create it"
        )
    return fail(
        f"there is no topic {topic} that the Kafka user may see, and it may not create one ({refusal.str()})",
        "create it, or allow the operations Create and Describe on it",
    )


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
    """Of the job, which cannot do without; then of the commands beside it."""
    settings = world.settings
    source, letters = f"topic {settings.kafka_input_topic}", f"topic {settings.kafka_dead_letter_topic}"
    group = f"group {settings.kafka_group_id}"
    rights = {**_topic_rights(world), group: _group_rights(world)}
    of_the_job = ((source, AclOperation.READ), (group, AclOperation.READ), (letters, AclOperation.WRITE))
    of_others = ((source, AclOperation.WRITE), (letters, AclOperation.READ))
    if lacking := _lacking(rights, of_the_job):
        return fail(f"the broker does not allow {lacking}", "add the ACLs for the Kafka user")
    unknown = [what for what in (source, group, letters) if what in rights and not rights[what]]
    if unknown:
        return skipped(f"the broker does not tell the rights on {', '.join(unknown)}")
    if lacking := _lacking(rights, of_others):
        return warn(
            f"the broker does not allow {lacking}: send, dead-letters or audit will be refused",
            "add the ACLs for the Kafka user who runs them",
        )
    return ok(f"may {', '.join(f'{right.name} {what}' for what, right in (*of_the_job, *of_others) if what in rights)}")


_Rights = dict[str, frozenset[AclOperation]]
"""What may be done, by `topic NAME` and `group NAME`; nothing where the broker does not tell."""


def _lacking(rights: _Rights, wanted: Iterable[tuple[str, AclOperation]]) -> str:
    """Which of them the broker says are missing."""
    return ", ".join(
        f"{right.name} on {what}"
        for what, right in wanted
        if (known := rights.get(what)) and not {right, AclOperation.ALL} & known
    )


def _topic_rights(world: World) -> _Rights:
    """Of the topics that there are."""
    names = (world.settings.kafka_input_topic, world.settings.kafka_dead_letter_topic)
    return {
        f"topic {name}": _told(partial(_described_topic, world, name)) for name in names if name in world.partitions
    }


def _described_topic(world: World, topic: str) -> Any:  # noqa: ANN401 - untyped upstream
    timeout = kafka.client.TIMEOUT
    wanted = TopicCollection([topic])
    return world.admin.describe_topics(wanted, include_authorized_operations=True, request_timeout=timeout)[topic]


def _group_rights(world: World) -> frozenset[AclOperation]:
    """A group that may not even be described allows nothing that would do."""
    try:
        return _told(partial(_described_group, world, world.settings.kafka_group_id))
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return _NONE
        raise


def _described_group(world: World, group: str) -> Any:  # noqa: ANN401 - untyped upstream
    timeout = kafka.client.TIMEOUT
    return world.admin.describe_consumer_groups([group], include_authorized_operations=True, request_timeout=timeout)[
        group
    ]


def _told(ask: Callable[[], Any]) -> frozenset[AclOperation]:
    """The operations that the answer of a future of `ask` names; none where the broker does not tell."""
    try:
        return frozenset(kafka.client.patiently(lambda: ask().result()).authorized_operations or ())
    except KafkaException as exc:
        if exc.args[0].code() in _DOES_NOT_TELL:
            return frozenset()
        raise


def untold(name: str, topic: str, wanted: str) -> Verdict:
    return warn(
        f"the broker does not tell {name} of {topic}",
        f"see to it that it is {wanted}; with the operation DescribeConfigs on the topic this check can",
    )


def _dead_letter_size(world: World) -> Verdict:
    """A dead letter is its message with headers of ours, and may compress less well than the producer had it."""
    told, topic = world.dead_letter_config.get("max.message.bytes"), world.settings.kafka_dead_letter_topic
    if told is None:
        return untold("max.message.bytes", topic, f"{kafka.LARGEST_DEAD_LETTER}, or as much as is allowed")
    limit = int(told)
    remedy = f"set max.message.bytes of the dead-letter topic to {kafka.LARGEST_DEAD_LETTER}, or as much as is allowed"
    if limit >= kafka.LARGEST_DEAD_LETTER:
        return ok(f"takes dead letters of {limit} bytes")
    there = world.settings.kafka_input_topic in world.partitions
    of_input = world.input_config.get("max.message.bytes") if there else "0"
    if of_input is not None and limit < int(of_input) + _HEADERS_BYTES:
        return fail(
            f"takes {limit} bytes, but the input topic's messages may have {of_input} and headers, and the job cannot "
            "go on past one that does not fit",
            remedy,
        )
    return warn(f"takes {limit} bytes: a message that was compressed well may not fit", remedy)


def _dead_letter_cleanup(world: World) -> Verdict:
    topic = world.settings.kafka_dead_letter_topic
    policy, kept = world.dead_letter_config.get("cleanup.policy"), world.dead_letter_config.get("retention.ms")
    if policy is None or kept is None:
        return untold("cleanup.policy and retention.ms", topic, "delete and -1")
    if "compact" in policy:
        return fail(
            f"cleanup.policy is {policy}, which refuses dead letters without a key and keeps one of each key",
            "set cleanup.policy=delete and retention.ms=-1 on the dead-letter topic",
        )
    if int(kept) >= 0:
        return warn(f"dead letters are deleted after {span(int(kept) / 1000)}", "set its retention.ms to -1")
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
    Check("broker.login", _login),
    Check("broker.input_topic", _input_topic, _REACHABLE),
    Check("broker.partitions", _partitions, _REACHABLE),
    Check("broker.dead_letter_topic", _dead_letter_topic, _REACHABLE),
    Check("broker.dead_letter_size", _on(_DEAD, _dead_letter_size), _REACHABLE),
    Check("broker.dead_letter_cleanup", _on(_DEAD, _dead_letter_cleanup), _REACHABLE),
    Check("broker.rights", _rights, _REACHABLE),
)
