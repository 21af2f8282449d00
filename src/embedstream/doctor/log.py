"""The log of the input topic: what is unread, held back, lost or out of order, and who else commits for the group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.doctor.check import Check, Verdict, fail, ok, skipped, span, untold, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from embedstream.doctor.world import World
    from embedstream.standing import Trouble

_NEARLY = 0.8


def _failed(troubles: Iterable[Trouble]) -> Verdict | None:
    """One verdict for all of them; each has its own facts, and the first says what to do."""
    found = list(troubles)
    return fail("; ".join(trouble.fact for trouble in found), found[0].remedy) if found else None


def _identity(world: World) -> Verdict:
    standing = world.standing
    if standing.another_topic:
        return fail(*standing.another_topic)
    if not any(each.topic_id for each in standing.progress.values()):
        return ok("the table does not say yet from which topic it was filled")
    return ok("the topic is the one that the table was filled from")


def _group(world: World) -> Verdict:
    standing = world.standing
    if standing.log.members is None:
        return skipped(f"the broker does not tell who is in group {standing.group}")
    if standing.subscribed:
        return fail(*standing.subscribed)
    return ok(f"nobody but the job commits for group {standing.group}")


def _offsets(world: World) -> Verdict:
    return _failed(world.standing.beyond) or ok("all within the log")


def _transactions(world: World) -> Verdict:
    limit = world.settings.health_max_age_seconds
    if verdict := _failed(world.standing.held(limit)):
        return verdict
    if count := world.standing.log.behind_transaction:
        return ok(f"{count:,} offsets wait behind open transactions, none for longer than {span(limit)}")
    return ok("no record waits behind an open transaction")


def _unread(world: World) -> Verdict:
    """Records that were deleted before the job read them are lost to the table."""
    standing = world.standing
    lost = {each.partition: each.expired_unread for each in standing.log.positions if each.expired_unread}
    by = "the table had" if standing.progress else f"group {standing.group} had read"
    if lost:
        return fail(
            f"{sum(lost.values())} offsets expired before {by} them (partitions {', '.join(map(str, lost))}); "
            "markers of transactions have offsets, too",
            "send those messages again, and raise the topic's retention.ms",
        )
    settings, age = world.settings, standing.log.oldest_unread
    if age is not None and age > settings.health_max_age_seconds + settings.flink_checkpoint_interval_ms / 1000:
        return warn(
            f"{standing.log.unread:,} are unread, the oldest has waited for {span(age)}",
            "embedstream status tells how fast they are taken, and what the job waits for",
        )
    return ok(f"no record expired before {by} it; {standing.log.unread:,} are unread")


def _retention(world: World) -> Verdict:
    told = world.input_config.get("retention.ms")
    if told is None:
        return untold("retention.ms", world.settings.kafka_input_topic, "longer than the job may ever be away")
    retention = int(told) / 1000
    log = world.standing.log
    # What is held back may expire unread as well.
    age = max((age for age in (log.oldest_unread, log.oldest_held) if age is not None), default=None)
    kept = "for ever" if retention < 0 else f"for {span(retention)}"
    if age is None:
        return ok(f"records are kept {kept}; none is unread")
    fact = f"the oldest unread record is {span(age)} old, records are kept {kept}"
    remedy = "raise retention.ms of the input topic, and see why the job lags: embedstream status"
    if 0 <= retention < age:
        return fail(fact, remedy)
    return warn(fact, remedy) if 0 <= retention * _NEARLY < age else ok(fact)


def _timestamps(world: World) -> Verdict:
    """Versions go by the records' timestamps, and a replay of a dead letter keeps them."""
    late = {number: each.late for number, each in world.standing.progress.items() if each.late}
    if late:
        return warn(
            f"{sum(late.values())} records lost against an earlier one of their own partition (partitions "
            f"{', '.join(map(str, late))}), only because of their timestamps: the clock of a producer is ahead of "
            "another's, or one writes times in another unit",
            "set VERSION_BY=record where each id stays in one partition, or give the messages a timestamp",
        )
    kind = world.input_config.get("message.timestamp.type")
    if kind is None:
        return untold("message.timestamp.type", world.settings.kafka_input_topic, "CreateTime")
    if kind == "LogAppendTime":
        return warn(
            "the broker replaces the timestamps of records, so a replayed dead letter may overwrite newer versions",
            "set message.timestamp.type=CreateTime on the input topic",
        )
    return ok(f"records keep the timestamps of their producers ({kind})")


def _on_topic(look: Callable[[World], Verdict]) -> Callable[[World], Verdict]:
    """The check for a topic that exists; submit creates one that fits."""

    def check(world: World) -> Verdict:
        topic = world.settings.kafka_input_topic
        return look(world) if topic in world.partitions else skipped(f"there is no topic {topic} yet")

    return check


_REACHABLE = ("broker.reachable",)
CHECKS = tuple(
    Check(f"broker.{name}", _on_topic(look), _REACHABLE)
    for name, look in {
        "identity": _identity,
        "group": _group,
        "offsets": _offsets,
        "transactions": _transactions,
        "unread": _unread,
        "retention": _retention,
        "timestamps": _timestamps,
    }.items()
)
