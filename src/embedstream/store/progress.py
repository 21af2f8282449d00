"""How far the table is in its topics: kept in the transactions that write it, so that the two cannot part."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.store.names import Names, columns, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

    import psycopg

    from embedstream.ingest import Advance, Place
    from embedstream.settings import Settings

    HasRecord: TypeAlias = Callable[[str, int, int, int], bool]
    """Whether a partition (topic, number) has a record from one offset up to, but without, another."""


class Progress(NamedTuple):
    """Of one partition: `next` is the offset after the last record that has its outcome.

    `late` counts records that lost against an earlier one of the partition, only because of their time; `ids` those
    that came into the ledger through it; `back_from` is where a worker was before the database went back, if it did;
    `idle` are the seconds, by the database's clock, since the table last moved on in it; `mapped_from` is the first
    offset that was read with the latest job's mapping.
    """

    topic_id: str | None
    cluster_id: str | None
    next: int
    late: int
    ids: int
    back_from: int | None
    idle: float
    mapped_from: int = 0


class Forgotten(StoreUnavailable):
    """The database is behind what was committed to it: `gaps` are its places, where it stands, and where it was."""

    def __init__(self, table: str, gaps: Sequence[tuple[Place, int, int]]) -> None:
        super().__init__("; ".join(as_line(table, *gap) for gap in gaps))
        self.gaps = gaps


def as_line(table: str, place: Place, stands: int, was: int) -> str:
    topic, partition = place
    return (
        f"table {table} stands at offset {stands} of partition {partition} of {topic}, but had been at {was}: "
        "its database went back in time (a restore, a failover), and the job is to be submitted again"
    )


def read_progress(connection: psycopg.Connection[Any], settings: Settings) -> dict[int, Progress]:
    """By partition of the input topic; empty where the table has none of it, or keeps no progress."""
    if not keeps_progress(connection, settings):
        return {}
    statement = statements(settings.pgvector_table, "progress.sql")["read"]
    rows = connection.execute(statement, {"topic": settings.kafka_input_topic})
    return {partition: Progress(*facts) for partition, *facts in rows}


def read_forgotten(connection: psycopg.Connection[Any], settings: Settings) -> list[str]:
    """A line for each partition in which a worker found the database behind what had been committed to it.

    Where there is no progress at all the table is gone, or it is of a version that kept none.
    """
    if not keeps_progress(connection, settings):
        return [f"table {settings.pgvector_table} is gone, or of a version that kept no progress"]
    rows = connection.execute(statements(settings.pgvector_table, "progress.sql")["forgotten"])
    return [as_line(settings.pgvector_table, (topic, number), stands, was) for topic, number, stands, was in rows]


def keeps_progress(connection: psycopg.Connection[Any], settings: Settings) -> bool:
    return bool(columns(connection, Names.of(settings.pgvector_table).progress))


class Stands:
    """Where one writer has seen the table stand, by partition; it never moves on over a step back."""

    def __init__(self, table: str, has_record: HasRecord | None = None) -> None:
        self._table = table
        self._sql = statements(table, "progress.sql")
        self._has_record = has_record
        self._seen: dict[Place, int] = {}

    def are_new(self, places: Iterable[Place]) -> bool:
        return not self._seen.keys() >= set(places)

    def resume(self, connection: psycopg.Connection[Any], starts: Mapping[Place, int]) -> None:
        """Look where the table stands in partitions that are new to this writer, which begins at `starts`.

        Raises Forgotten where records lie in between. Markers of transactions and compaction leave gaps, too.
        """
        new = {place: first for place, first in starts.items() if place not in self._seen}
        found = self._read(connection, new)
        gaps = [(place, found.get(place, 0), first) for place, first in new.items()]
        lost = [gap for gap in gaps if self._is_lost(*gap)]
        if lost:
            self.mark(connection, lost)
            raise Forgotten(self._table, lost)
        self._open(connection, new.keys() - found.keys())
        self._seen |= {place: found.get(place, 0) for place in new}

    def move(
        self, cursor: psycopg.Cursor[Any], advance: Advance | None, new: Mapping[Place, int], *, prepare: bool
    ) -> dict[Place, int]:
        """Count ids that are new to the ledger, and move on where there is an `advance`; in the cursor's transaction.

        Returns where the table stands then, for `seen` once that is committed. Raises Forgotten.
        """
        places = sorted({*(advance or {}), *new})
        if not places:
            return {}
        self._open(cursor.connection, [place for place in places if place not in self._seen])
        steps = advance or {}
        facts = {
            **_columns(places),
            "next": [steps[place].next if place in steps else 0 for place in places],
            "seen": [self._seen.get(place, 0) for place in places],
            "late": [steps[place].late if place in steps else 0 for place in places],
            "ids": [new.get(place, 0) for place in places],
        }
        rows = cursor.execute(self._sql["advance"], facts, prepare=prepare)
        stands = {(topic, partition): next_ for topic, partition, next_ in rows}
        if behind := [place for place in places if place not in stands]:
            found = self._read(cursor.connection, behind)
            raise Forgotten(self._table, [(place, found.get(place, 0), self._seen[place]) for place in behind])
        return stands

    def seen(self, stands: Mapping[Place, int]) -> None:
        self._seen |= stands

    def mark(self, connection: psycopg.Connection[Any], gaps: Iterable[tuple[Place, int, int]]) -> None:
        """Say so in the table, for who keeps the job."""
        for (topic, partition), _, was in gaps:
            connection.execute(self._sql["mark"], {"topic": topic, "partition": partition, "back_from": was})

    def _is_lost(self, place: Place, stands: int, first: int) -> bool:
        if stands >= first or self._has_record is None:
            return False
        try:
            return self._has_record(*place, stands, first)
        except ConfigError as exc:
            raise StoreUnavailable(f"whether the table misses records of {place} is not known yet: {exc}") from exc

    def _read(self, connection: psycopg.Connection[Any], places: Iterable[Place]) -> dict[Place, int]:
        rows = connection.execute(self._sql["stands"], _columns(places), prepare=False)
        return {(topic, partition): next_ for topic, partition, next_ in rows}

    def _open(self, connection: psycopg.Connection[Any], places: Iterable[Place]) -> None:
        if places := list(places):
            connection.execute(self._sql["open"], _columns(places))


def _columns(places: Iterable[Place]) -> dict[str, list[Any]]:
    places = list(places)
    return {"topic": [topic for topic, _ in places], "partition": [partition for _, partition in places]}
