"""The erasure of an id: its delete, the wait for the table, and a look at what is left."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka.admin import AdminClient

from embedstream import kafka, store
from embedstream.display import silently
from embedstream.errors import ConfigError, Rejected
from embedstream.journey.scan import Bounds
from embedstream.journey.trace import at, journey
from embedstream.kafka import client
from embedstream.migrate.relations import named
from embedstream.send import Checker, send_deletes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from embedstream.display import Watch
    from embedstream.journey.report import Journey, Looked
    from embedstream.settings import Settings

_TICK = 0.2
_EVERYTHING = Bounds()

NOT_SEEN = (
    "PostgreSQL's write-ahead log, its replicas and its backups",
    "copies of the topics: mirrors, tiered storage, other consumers",
    "the source of the message, which may send it again",
)


@dataclass(frozen=True)
class Copy:
    """A record that carries a text of the id. Compaction takes it for an older version only where it is `keyed`."""

    partition: int
    offset: int
    recorded: datetime | None
    keyed: bool


@dataclass(frozen=True)
class Kept:
    """Copies in a topic, and how long it keeps records; None where the broker does not tell, -1 ms is for ever."""

    topic: str
    copies: tuple[Copy, ...]
    cleanup_policy: str | None
    retention_ms: int | None


@dataclass(frozen=True)
class Relation:
    """A relation that held the text, or a vector of it; `vacuumed` tells whether it was since the row was deleted."""

    name: str
    dead_tuples: int
    last_vacuum: datetime | None
    vacuumed: bool


@dataclass(frozen=True)
class Erasure:
    """The record of an erasure. `outcome` is what became of the delete, which stands at `partition` and `offset`.

    `had_row` tells whether there was a row at all, `gone_at` by the database's clock when none was left. What else
    carries the text is in `topic`, `dead_letters`, `relations` and `indexes`, as far as it was looked for (`complete`).
    """

    id: str
    table: str
    requested_at: datetime
    partition: int
    offset: int
    had_row: bool
    gone: bool
    gone_at: datetime | None
    outcome: str
    topic: Kept
    dead_letters: Kept
    relations: tuple[Relation, ...]
    indexes: tuple[str, ...]
    looked_at: tuple[Looked, ...]
    complete: bool
    not_seen: tuple[str, ...] = NOT_SEEN

    def as_facts(self) -> dict[str, Any]:
        return asdict(self)


class _Standing(NamedTuple):
    """How the id stands in table and ledger, by the database's clock `now`."""

    has_row: bool
    topic: str | None
    partition: int | None
    offset: int | None
    updated_at: datetime | None
    now: datetime


def forget(
    settings: Settings, id: str, timeout: float = 60.0, bounds: Bounds = _EVERYTHING, watch: Watch = silently
) -> Erasure:
    """Send the delete of an id, and wait for at most `timeout` seconds until the pipeline has taken it.

    Raises ConfigError, before anything is sent, for an id that no record without a value can delete.
    """
    checker = Checker(settings, "id")
    _refuse(settings, id, checker)
    with store.database(settings) as connection:
        table = _Table(settings, connection, id)
        before = table.standing()
        requested_at = datetime.now(UTC)
        sent = send_deletes(settings, [id], checker, _partition(settings, before))
        place = sent.partitions[0], sent.offsets[0]
        with watch("waiting for the table", None):
            after = table.wait(place, timeout)
    found = journey(settings, id, bounds, watch)
    outcome = next((each.outcome for each in at(settings, *place).versions if each.id == id), "unexplained")
    gone = after is not None and not after.has_row
    gone_at = (after.updated_at or after.now) if after and gone else None
    with store.database(settings) as connection:
        relations, indexes = _Table(settings, connection, id).relations(gone_at)
    return Erasure(
        id, settings.pgvector_table, requested_at, *place, before.has_row, gone, gone_at, outcome,
        _in_topic(settings, found), _in_dead_letters(settings, found), relations, indexes, found.looked_at,
        found.complete,
    )  # fmt: skip


class _Table:
    def __init__(self, settings: Settings, connection: psycopg.Connection[Any], id: str) -> None:
        documents = store.documents_for(settings)
        self._sql = store.statements(settings.pgvector_table, "forget.sql", documents=documents)
        self._settings = settings
        self._connection = connection
        self._id = id
        table = store.Names.of(settings.pgvector_table).table
        self._names: dict[str, Any] = {
            "table": table.as_string(connection),
            "documents": documents.as_string(connection),
        }
        # A migration keeps the texts in a second table, of chunks in two.
        others = [named(settings, f"{role}{rest}") for role in ("next", "previous") for rest in ("", "_documents")]
        self._names["others"] = [each.as_string(connection) for each in others]

    def standing(self) -> _Standing:
        return _Standing(*self._connection.execute(self._sql["standing"], {"id": self._id}).fetchall()[0])

    def wait(self, place: tuple[int, int], timeout: float) -> _Standing | None:
        """How the id stands once the table has taken the record, by its progress or its ledger; None if it has not."""
        number, offset = place
        deadline = time.monotonic() + timeout
        while True:
            progress = store.read_progress(self._connection, self._settings).get(number)
            found = self.standing()
            is_there = (found.topic, found.partition, found.offset) == (self._settings.kafka_input_topic, *place)
            if is_there or (progress and progress.next > offset):
                return found
            if time.monotonic() > deadline:
                return None
            time.sleep(_TICK)

    def relations(self, gone_at: datetime | None) -> tuple[tuple[Relation, ...], tuple[str, ...]]:
        """What held the text or a vector of it, and the indexes on that."""
        relations = tuple(
            Relation(name, dead, vacuum, vacuum is not None and gone_at is not None and vacuum > gone_at)
            for name, dead, vacuum in self._connection.execute(self._sql["relations"], self._names)
        )
        return relations, tuple(name for (name,) in self._connection.execute(self._sql["indexes"], self._names))


def _refuse(settings: Settings, id: str, checker: Checker) -> None:
    """Raise ConfigError where a delete of this id would delete nothing, or something else."""
    at_source = "delete it at its source, whose record then says so"
    if settings.decoding and not settings.decoding.is_default:
        from embedstream.decode.plan import ids_need_value  # noqa: PLC0415 - needs what only mappings do

        if parts := ids_need_value(settings.decoding):
            raise ConfigError(
                f"nothing was sent: an id needs {', '.join(parts)}, which a delete without a value does not have: "
                f"{at_source}"
            )
    try:
        taken = checker.delete(1, id)
    except Rejected as exc:
        raise ConfigError(f"nothing was sent: {exc.reason}: {at_source}") from exc
    if taken.id != id:
        what = "left out by the mapping" if not taken.id else "taken for that of another id"
        raise ConfigError(f"nothing was sent: a delete with this id as its key would be {what}: {at_source}")


def _partition(settings: Settings, before: _Standing) -> int | None:
    """That of the version that stands: there the delete is behind it, by whichever order, also for compaction.

    None: the one that the key has.
    """
    if before.topic != settings.kafka_input_topic or before.partition is None:
        return None
    numbers = {each.partition for each in kafka.positions(settings)}
    return before.partition if before.partition in numbers else None


def _in_topic(settings: Settings, found: Journey) -> Kept:
    copies = (
        Copy(each.partition, each.offset, each.recorded, each.keyed)
        for each in found.versions
        if each.outcome != "expired" and (each.text is not None or each.asks in {"rejected", "filtered"})
    )
    return _kept(settings, settings.kafka_input_topic, copies)


def _in_dead_letters(settings: Settings, found: Journey) -> Kept:
    copies = (Copy(each.partition, each.offset, each.at, False) for each in found.dead_letters if each.has_text)
    return _kept(settings, settings.kafka_dead_letter_topic, copies)


def _kept(settings: Settings, topic: str, copies: Iterable[Copy]) -> Kept:
    admin = AdminClient(kafka.client_config(settings))
    config = client.asked(settings, lambda: kafka.topic_config(admin, topic))
    retention = config.get("retention.ms")
    distinct = dict.fromkeys(copies)
    return Kept(topic, tuple(distinct), config.get("cleanup.policy"), None if retention is None else int(retention))
