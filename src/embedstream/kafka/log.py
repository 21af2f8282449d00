"""The log of the input topic: its ends, how far a group and the table are in it, and what is unread.

Whoever tells how far the pipeline is asks here, so that all tell the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config
from embedstream.kafka.group import members
from embedstream.kafka.reading import heads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from embedstream.kafka.group import Member
    from embedstream.kafka.reading import Head
    from embedstream.settings import Settings

_SPEC: Any = OffsetSpec  # untyped upstream


class Position(NamedTuple):
    """Where a group stands in a partition, and the table, where it says so (`recorded`); None: not begun, not known.

    `first` and `end` are the first and the next offset of the log. `held_from` is the offset from which on an open
    transaction holds records back, None where there is none. `head` and `held` are what a look found there. `idle` are
    the seconds since the table last moved on, where it says so.
    """

    partition: int
    first: int
    end: int
    committed: int | None
    held_from: int | None = None
    recorded: int | None = None
    looked: bool = False
    head: Head | None = None
    held: Head | None = None
    idle: float | None = None

    @property
    def stable(self) -> int:
        """The offset up to which a reader of committed records gets."""
        return self.end if self.held_from is None else self.held_from

    @property
    def stands(self) -> int | None:
        """The offset after the last record whose outcome is known: by the table, or else by the group."""
        return self.committed if self.recorded is None else self.recorded

    @property
    def next(self) -> int:
        """The first offset that is to be read; a reader beyond the end begins again at the first record."""
        stands = self.stands
        return self.first if stands is None or stands > self.end else max(self.first, stands)

    @property
    def lag(self) -> int:
        """Offsets to be read; some may hold no record."""
        return max(0, self.stable - self.next)

    @property
    def unread(self) -> int:
        """What a reader of committed records would still get, at most; 0 where it would get nothing.

        Markers and aborted records have offsets too. Those before the first unread record do not count.
        """
        if not self.looked:
            return self.lag
        return max(1, self.stable - self.head.offset) if self.head else 0

    @property
    def behind_transaction(self) -> int:
        """Offsets that an open transaction holds back, its own among them."""
        return self.end - self.stable

    @property
    def unread_for(self) -> float | None:
        """Seconds that the first unread record has waited; None where there is none, or where that is not known.

        Its own time tells, or else how long the table has taken nothing: a producer's clock may be ahead.
        """
        return self._age_of(self.head)

    @property
    def held_for(self) -> float | None:
        """As `unread_for`, of the first record that an open transaction holds back."""
        return self._age_of(self.held)

    def _age_of(self, head: Head | None) -> float | None:
        if head is None:
            return None
        return self.idle if head.age is None else head.age

    @property
    def beyond(self) -> list[tuple[str, int]]:
        """Who stands beyond the end, `group` or `table`, and where."""
        places = {"group": self.committed, "table": self.recorded}
        return [(who, place) for who, place in places.items() if place is not None and place > self.end]

    @property
    def expired_unread(self) -> int:
        """Offsets that left the log before they were read."""
        return 0 if self.stands is None else max(0, self.first - self.stands)

    @property
    def settled(self) -> int:
        """Below it each record is in the table or in the dead letters: those are written when the group commits."""
        if self.committed is None or self.beyond:
            return 0
        return self.committed if self.recorded is None else min(self.committed, self.recorded)


class Log(NamedTuple):
    """A look at all partitions; empty where there is no topic. `members` are None where the broker does not tell."""

    positions: list[Position]
    members: list[Member] | None

    @property
    def unread(self) -> int:
        return sum(position.unread for position in self.positions)

    @property
    def behind_transaction(self) -> int:
        return sum(position.behind_transaction for position in self.positions)

    def there(self, places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of (partition, offset) that a reader of committed records may find a record at, in order."""
        ends = {each.partition: (each.first, each.stable) for each in self.positions}
        return sorted(
            place for place in places if ends.get(place[0], (0, 0))[0] <= place[1] < ends.get(place[0], (0, 0))[1]
        )

    @property
    def oldest_unread(self) -> float | None:
        """Age in seconds."""
        return _oldest(position.unread_for for position in self.positions)

    @property
    def oldest_held(self) -> float | None:
        """Age in seconds of the first record that an open transaction holds back."""
        return _oldest(position.held_for for position in self.positions)


def look(settings: Settings, recorded: Mapping[int, int] | None = None, *, complete: bool = False) -> Log:
    """How far group and table are, what is unread, and who else is in the group.

    `recorded` has the table's next offset by partition, read before: whoever reads it later may find it beyond the
    end. Where it is `complete`, the table has nothing of a partition that it does not name. Raises ConfigError where
    Kafka is away.
    """
    found = positions(settings, recorded, complete=complete)
    topic = settings.kafka_input_topic
    unread = heads(settings, topic, {each.partition: each.next for each in found if each.lag}, "read_committed")
    held = heads(
        settings, topic, {each.partition: each.stable for each in found if each.behind_transaction}, "read_uncommitted"
    )
    looked = [
        each._replace(
            looked=each.partition in unread or not each.lag,
            head=unread.get(each.partition),
            held=held.get(each.partition),
        )
        for each in found
    ]
    return Log(looked, members(settings))


def positions(
    settings: Settings, recorded: Mapping[int, int] | None = None, *, complete: bool = False
) -> list[Position]:
    """How far the group is in each partition of the input topic, without a look at records; empty without a topic."""
    topic = settings.kafka_input_topic
    with Consumer({**client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        found = asked(settings, lambda: consumer.list_topics(timeout=client.TIMEOUT)).topics.get(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(found.partitions)] if found else []
        if not partitions:
            return []
        # Before the ends: whoever commits meanwhile is not beyond them.
        committed = asked(settings, lambda: consumer.committed(partitions, timeout=client.TIMEOUT))
    places = {place.partition: place.offset if place.offset >= 0 else None for place in committed}
    stands = recorded or {}
    return [
        Position(
            number, first, end, places[number], stable if stable < end else None,
            stands.get(number, first if complete else None),
        )
        for number, (first, end, stable) in _ends(settings, partitions).items()
    ]  # fmt: skip


def _ends(settings: Settings, partitions: list[TopicPartition]) -> dict[int, tuple[int, int, int]]:
    """First and next offset, and the last stable one; that is asked last, or what comes meanwhile seemed held back.

    A client that has been told of a new leader asks it with the old one's epoch again: the next try has one of its own.
    """
    admin = AdminClient(client_config(settings))

    def of(spec: OffsetSpec, isolation: IsolationLevel) -> dict[int, int]:
        nonlocal admin
        wanted = dict.fromkeys(partitions, spec)
        futures = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=client.TIMEOUT)
        try:
            return {place.partition: future.result().offset for place, future in futures.items()}
        except KafkaException:
            admin = AdminClient(client_config(settings))
            raise

    first = asked(settings, lambda: of(_SPEC.earliest(), IsolationLevel.READ_UNCOMMITTED))
    end = asked(settings, lambda: of(_SPEC.latest(), IsolationLevel.READ_UNCOMMITTED))
    stable = asked(settings, lambda: of(_SPEC.latest(), IsolationLevel.READ_COMMITTED))
    return {number: (first[number], end[number], stable[number]) for number in sorted(end)}


def _oldest(ages: Iterable[float | None]) -> float | None:
    return max((age for age in ages if age is not None), default=None)
