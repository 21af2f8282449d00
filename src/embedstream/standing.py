"""Where table and topic stand to each other: the table's progress, the topic's log, and what is wrong between them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from embedstream import kafka, store
from embedstream.display import duration
from embedstream.errors import EmbedstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from embedstream.kafka import Identity, Log, Position
    from embedstream.settings import Settings
    from embedstream.store import Progress


class Trouble(NamedTuple):
    """What is wrong, and what to do about it."""

    fact: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.remedy}"


class Moved(NamedTuple):
    """`what` (cluster or topic) has this id now, and had those `before`."""

    what: str
    id: str
    before: Sequence[str]


class Standing(NamedTuple):
    """`progress` is what the table says by partition, {} where it says nothing; `identity` is the broker's word."""

    topic: str
    group: str
    progress: Mapping[int, Progress]
    log: Log
    identity: Identity | None

    @property
    def another_topic(self) -> Trouble | None:
        """The table was filled from a topic of this name that was another one, or stood elsewhere."""
        moved = moved_from(self.progress, self.identity) if self.identity else None
        if moved is None:
            return None
        return Trouble(
            f"topic {self.topic} ({'id' if moved.what == 'topic' else moved.what} {moved.id}) is another topic than "
            f"the one that the table was filled from ({', '.join(moved.before)})",
            "embedstream submit --adopt-topic reads it from its first record; or set KAFKA_INPUT_TOPIC, or KAFKA_*",
        )

    @property
    def without_topic(self) -> Trouble | None:
        """A job whose topic is gone goes on, and reads nothing."""
        if self.log.positions:
            return None
        return Trouble(
            f"there is no topic {self.topic}",
            "embedstream submit --replace makes it, or set KAFKA_INPUT_TOPIC, or KAFKA_*",
        )

    @property
    def beyond(self) -> Iterator[Trouble]:
        for each in self.log.positions:
            for who, place in each.beyond:
                name = f"group {self.group}" if who == "group" else "the table"
                yield Trouble(
                    f"{name} stands at offset {place:,} of partition {each.partition}, beyond its end {each.end:,}",
                    "the topic was cut or made anew, or somebody else set the offset; embedstream submit --replace "
                    "starts where nothing is missed",
                )

    @property
    def subscribed(self) -> Trouble | None:
        """Somebody who subscribed takes partitions, and keeps the job from committing."""
        if not self.log.members:
            return None
        names = ", ".join(sorted({str(member) for member in self.log.members}))
        return Trouble(
            f"group {self.group} has a member that is not the job: {names}",
            "stop it, or give it another group.id, or give the job another KAFKA_GROUP_ID",
        )

    def held(self, least_age: float) -> Iterator[Trouble]:
        """Partitions in which records wait behind a transaction that has been open for longer; None counts as that."""
        for each in self.log.positions:
            age = each.held_for
            if each.behind_transaction and (age is None or age > least_age):
                yield Trouble(
                    describe_held(each),
                    "it ends with its producer, or at its transaction.timeout.ms; kafka-transactions.sh "
                    f"describe-producers --topic {self.topic} --partition {each.partition} names the producer",
                )

    def troubles(self, least_age: float) -> Iterator[Trouble]:
        """All for which data may be missing although the job runs."""
        yield from (each for each in (self.without_topic, self.another_topic, self.subscribed) if each)
        yield from self.beyond
        yield from self.held(least_age)


def stand(settings: Settings, progress: Mapping[int, Progress], *, complete: bool = False) -> Standing:
    """Look at the log, with a progress that was read just before; without any the group's offsets take its place.

    A `complete` one is all that the table has: of other partitions nothing. Raises ConfigError where Kafka is away.
    """
    log = kafka.look(settings, {number: each.next for number, each in progress.items()}, complete=complete)
    idle = {number: each.idle for number, each in progress.items()}
    log = log._replace(positions=[each._replace(idle=idle.get(each.partition)) for each in log.positions])
    identity = kafka.identity(settings) if log.positions else None
    return Standing(settings.kafka_input_topic, settings.kafka_group_id, progress, log, identity)


def look(settings: Settings, connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]) -> Standing:
    """Where both stand now; that the database is away is told elsewhere, and the group's offsets tell then."""
    progress: Mapping[int, Progress] = {}
    has_begun = False
    with suppress(EmbedstreamError, psycopg.Error), connect() as connection:
        progress = store.read_progress(connection, settings)
        terms = store.read_terms(connection, settings)
        has_begun = bool(terms and terms.has_begun)
    return stand(settings, progress, complete=has_begun)


def describe_held(position: Position) -> str:
    since = "a time that is not known" if position.held_for is None else duration(position.held_for)
    return (
        f"{position.behind_transaction:,} offsets of partition {position.partition} wait behind a transaction "
        f"that has been open for {since}"
    )


def moved_from(progress: Mapping[int, Progress], found: Identity) -> Moved | None:
    """Whether a table was filled from another topic than this; what is not known on either side differs from nothing.

    That the cluster is another one comes first, since then the topic is, too.
    """
    for what, id, recorded in (
        ("cluster", found.cluster_id, {each.cluster_id for each in progress.values()}),
        ("topic", found.topic_id, {each.topic_id for each in progress.values()}),
    ):
        if id and (before := sorted(name for name in recorded if name not in (None, id))):
            return Moved(what, id, before)
    return None
