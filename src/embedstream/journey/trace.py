"""Finds the versions of an id, and has the audit's own rules tell what became of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedstream import kafka, store
from embedstream.audit import records
from embedstream.audit.comparison import Comparison
from embedstream.dead_letters.letter import of_record
from embedstream.display import silently
from embedstream.errors import ConfigError
from embedstream.journey.judging import Found, judge
from embedstream.journey.report import At, Journey, letter_of
from embedstream.journey.scan import Bounds, Seeker, chosen, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import psycopg
    from confluent_kafka import Message

    from embedstream.decode.message import Record
    from embedstream.display import Watch
    from embedstream.journey.report import Looked
    from embedstream.kafka import Position
    from embedstream.settings import Settings

_EVERYTHING = Bounds()


def journey(settings: Settings, id: str, bounds: Bounds = _EVERYTHING, watch: Watch = silently) -> Journey:
    """Every version of an id that the topic has within the bounds, with its outcome, and what stands of it.

    Raises ConfigError, or RetryLater, where a part of the world does not answer.
    """
    with store.database(settings, long=True) as connection:
        trace = _Trace(settings, connection, watch)
        trace.ids.append(id)
        looked = chosen(settings, trace.positions, bounds, trace.home(id))
        trace.comparison.has_all = all(each.is_whole for each in looked)
        is_of = trace.seeker.of(id)
        trace.find(looked, is_of)
        trace.find_letters(is_of)
        judged = judge(settings, connection, trace.comparison, trace.found)
        return Journey(
            id, settings.kafka_input_topic, settings.pgvector_table,
            versions=judged.versions, row=judged.rows.get(id), ledger=judged.entries.get(id),
            dead_letters=tuple(map(letter_of, trace.found.letters)), finding=judged.kinds.get(id),
            looked_at=tuple(looked), troubles=trace.troubles,
        )  # fmt: skip


def at(settings: Settings, partition: int, offset: int, watch: Watch = silently) -> At:
    """What became of the record at a place of the topic: of each message that came of it."""
    with store.database(settings, long=True) as connection:
        trace = _Trace(settings, connection, watch)
        answer = At(settings.kafka_input_topic, settings.pgvector_table, partition, offset, troubles=trace.troubles)
        position = next((each for each in trace.positions if each.partition == partition), None)
        presence = _presence(position, offset)
        message = trace.take(partition, offset, presence) if presence in {"there", "held"} else None
        if message is None:
            return replace(answer, presence="nothing" if presence in {"there", "held"} else presence)
        trace.comparison.has_all = False
        trace.find_letters(lambda _: False)
        judged = judge(settings, connection, trace.comparison, trace.found)
        letters = tuple(map(letter_of, trace.found.letters))
        versions = tuple(each for each in judged.versions if (each.partition, each.offset) == (partition, offset))
        return replace(answer, presence="there", versions=versions, dead_letters=letters)


def _presence(position: Position | None, offset: int) -> str:
    if position is None:
        return "no_partition"
    if offset < position.first:
        return "expired"
    if offset >= position.end:
        return "not_yet"
    return "there" if offset < position.stable else "held"


class _Trace:
    """Reads the topics; `ids` may be added to until it is judged."""

    def __init__(self, settings: Settings, connection: psycopg.Connection[Any], watch: Watch) -> None:
        store.need_session(connection, "a message's journey")
        space = store.pinned_space(connection, settings)
        store.check_order(store.read_terms(connection, settings), settings)
        self.ids: list[str] = []
        former = store.read_service(connection, settings).former_models
        self.seeker = Seeker(settings, space.model_name, *former)
        self.found = Found(self.ids, self.seeker)
        self.comparison = Comparison(settings, connection, space, silently, self.ids)
        self._settings = settings
        self._topic = settings.kafka_input_topic
        self._connection = connection
        self._watch = watch
        self._standing = self.comparison.begin()
        if not self.positions:
            raise ConfigError(f"there is no topic {self._topic} yet: embedstream submit makes it")

    @property
    def positions(self) -> Sequence[Position]:
        return self._standing.log.positions

    @property
    def troubles(self) -> tuple[str, ...]:
        return tuple(map(str, self._standing.troubles(self._settings.health_max_age_seconds)))

    def home(self, id: str) -> int | None:
        """The partition that holds the id's records: that of the one in the ledger, where its key names the id."""
        sql = store.statements(self._settings.pgvector_table, "journey.sql", outcomes=self.comparison.sql["outcomes"])
        for place in self._connection.execute(sql["home"], {"id": id, "topic": self._topic}):
            message = next(records.fetch(self._settings, self._topic, self._standing.log.there([place])), None)
            if message is not None and id in self.seeker.keyed(self.seeker.record(message)):
                return int(place[0])
        return None

    def take(self, partition: int, offset: int, presence: str) -> Message | None:
        """The record of one place, with the ids that it is about; None where there is none."""
        isolation = "read_uncommitted" if presence == "held" else "read_committed"
        message = next(records.fetch(self._settings, self._topic, [(partition, offset)], isolation), None)
        if message is not None:  # one without a value is false
            self.ids.extend(dict.fromkeys(self.seeker.ids(self.seeker.record(message))))
            (self.found.held if presence == "held" else self.found.sent)[partition, offset] = message
        return message

    def find(self, looked: Sequence[Looked], is_of: Callable[[Record], bool]) -> None:
        """What an open transaction holds back may still be aborted."""

        def matches(message: Message) -> bool:
            return is_of(self.seeker.record(message))

        ranges = [records.Range(each.partition, each.first, each.end) for each in looked]
        self.found.sent.update(_by_place(find(self._settings, self._topic, ranges, matches, self._watch)))
        behind = [records.Range(each.partition, each.stable, each.end) for each in self.positions]
        for messages in records.read(self._settings, self._topic, behind, "read_uncommitted"):
            self.found.held.update(_by_place(filter(matches, messages)))

    def find_letters(self, is_of: Callable[[Record], bool]) -> None:
        """Those of records that were found, and of others about the id, which may have left the topic."""
        topic = self._settings.kafka_dead_letter_topic
        ranges = [records.Range(number, *ends) for number, ends in kafka.extent(self._settings, topic).items()]

        def belongs(message: Message) -> bool:
            facts = of_record(message).facts
            place = facts.origin
            if facts.topic != self._topic or place is None:
                return False
            record = self.seeker.record(message)._replace(topic=self._topic, partition=place[0], offset=place[1])
            moment = -1 if facts.timestamp is None else facts.timestamp
            return place in self.found.sent or is_of(record._replace(timestamp=moment))

        self.found.letters.extend(find(self._settings, topic, ranges, belongs, self._watch))


def _by_place(messages: Iterable[Message]) -> dict[tuple[int, int], Message]:
    return {(message.partition() or 0, message.offset() or 0): message for message in messages}
