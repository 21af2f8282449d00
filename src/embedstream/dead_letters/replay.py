"""Dead letters back to the input topic.

What is sent has the original key, value, headers and timestamp, and goes to the original partition. So its version is
what it was but for the offset: a newer version of its id that arrived meanwhile stays; sending it twice is harmless.

Two headers come along. `dlq.attempts` is how often the message was rejected. `dlq.replayed` is `<partition>-<offset>`
of the message in the input topic: a second replay finds it there, beyond the message in the same partition, or in the
dead letter that the replayed message became, and does not send the message again. It names the message, not
the dead letter, because the job may write a dead letter twice after a crash.

A message without id and key gets as its key the id that it had, `<topic>-<partition>-<offset>`: from its new place it
would get another one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from embedstream import kafka
from embedstream.dead_letters import letter as letters
from embedstream.dead_letters.edit import has_id
from embedstream.dead_letters.letter import PREFIX
from embedstream.dead_letters.repeats import beyond, repeats
from embedstream.decode.fields import id_of_coordinates
from embedstream.display import silently, watched
from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from embedstream.dead_letters.letter import DeadLetter, Facts, Filter, Place
    from embedstream.display import Watch
    from embedstream.settings import Settings


class Skip(Exception):
    """Somebody decided not to send a dead letter."""


class Replayed(NamedTuple):
    """How many dead letters were sent, and how many were left out for which reason."""

    sent: int
    already_replayed: int
    skipped: int


@dataclass
class _Plan:
    """The dead letters to send by the messages that they hold, and where the topic ended when it was made."""

    extent: Mapping[int, tuple[int, int]]
    chosen: dict[Place, Place] = field(default_factory=dict)
    replayed: set[Place] = field(default_factory=set)

    def takes(self, facts: Facts) -> bool:
        return facts.origin is not None and self.chosen.get(facts.origin) == facts.place


def replay(
    settings: Settings,
    wanted: Filter,
    change: Callable[[DeadLetter], bytes | None] = lambda letter: letter.value,
    *,
    again: bool = False,
    rehearse: bool = False,
    send: Callable[[Iterator[kafka.Outgoing]], int] | None = None,
    watch: Watch = silently,
) -> Replayed:
    """Send the dead letters that `wanted` takes, unless they were sent before and not `again`; `watch` sees reading.

    `change` gives the payload to send, or raises Skip; with `rehearse` it is tried on all of them before the first is
    sent. `send` takes the records instead of the topic. Raises ConfigError, before anything is sent, where a dead
    letter came from another topic than the input topic.
    """
    plan = _plan(settings, wanted, watch)
    known = set() if again else plan.replayed | _replayed_before(settings, plan, watch)
    already = plan.chosen.keys() & known
    for origin in already:
        del plan.chosen[origin]
    skipped: list[Place] = []
    if rehearse:
        deque(_records(settings, plan, change, []), maxlen=0)
    records = _records(settings, plan, change, skipped)
    sent = send(records) if send else kafka.produce(settings, settings.kafka_input_topic, records)
    return Replayed(sent, len(already), len(skipped))


def _plan(settings: Settings, wanted: Filter, watch: Watch) -> _Plan:
    """Of a message that died twice by a crash of the job, the later dead letter is chosen."""
    topic = settings.kafka_dead_letter_topic
    plan = _Plan(kafka.extent(settings, topic))
    found = set()
    for each in watched(watch, f"reading {topic}", letters.read(settings, plan.extent), kafka.length(plan.extent)):
        facts = each.facts
        if facts.replayed:
            plan.replayed.add(facts.replayed)
        if wanted.takes(facts) and _is_ours(settings, facts, named=wanted.places is not None) and facts.origin:
            plan.chosen[facts.origin] = facts.place
        if wanted.places and facts.place in wanted.places:
            found.add(facts.place)
    if missing := (wanted.places or frozenset()) - found:
        names = ", ".join(map(str, sorted(missing)))
        raise ConfigError(f"topic {topic} has no record {names}; nothing was sent")
    return plan


def _is_ours(settings: Settings, facts: Facts, *, named: bool) -> bool:
    """Raises ConfigError where the message came from another topic, or a record that was named is no dead letter."""
    if facts.origin is None:
        if named:
            raise ConfigError(f"record {facts.place} is no dead letter of embedstream's; nothing was sent")
        return False
    if facts.topic != settings.kafka_input_topic:
        raise ConfigError(
            f"dead letter {facts.place} came from topic {facts.topic}, not from {settings.kafka_input_topic}: "
            f"set KAFKA_INPUT_TOPIC={facts.topic} to replay it; nothing was sent"
        )
    if facts.omitted and named:
        raise ConfigError(
            f"dead letter {facts.place} lacks its {facts.omitted}, which is too large for one: "
            "produce a smaller message instead; nothing was sent"
        )
    return True


def _replayed_before(settings: Settings, plan: _Plan, watch: Watch) -> set[Place]:
    return set(repeats(settings, beyond(settings, plan.chosen.keys() - plan.replayed), watch))


def _records(
    settings: Settings, plan: _Plan, change: Callable[[DeadLetter], bytes | None], skipped: list[Place]
) -> Iterator[kafka.Outgoing]:
    for each in letters.read(settings, plan.extent if plan.chosen else {}):
        if plan.takes(each.facts):
            if each.facts.omitted:
                skipped.append(each.facts.place)
                continue
            try:
                yield outgoing(each, change(each))
            except Skip:
                skipped.append(each.facts.place)
            except ConfigError as exc:
                raise ConfigError(f"dead letter {each.facts.place}: {exc}") from exc


def outgoing(letter: DeadLetter, value: bytes | None) -> kafka.Outgoing:
    facts = letter.facts
    if facts.origin is None:
        raise ConfigError("is none of embedstream's")
    key = letter.key
    if not key and value is not None and not has_id(value):
        key = id_of_coordinates(facts.topic, *facts.origin).encode()
    headers: list[tuple[str, str | bytes | None]] = [
        *letter.own_headers,
        (f"{PREFIX}attempts", str(facts.attempts)),
        (f"{PREFIX}replayed", f"{facts.origin.partition}-{facts.origin.offset}"),
    ]
    timestamp = facts.timestamp if facts.timestamp is not None and facts.timestamp >= 0 else None
    return kafka.Outgoing(value, key, headers, timestamp, facts.origin.partition)
