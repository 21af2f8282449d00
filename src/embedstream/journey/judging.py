"""What became of each version of an id, by the statements of the audit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream import store
from embedstream.audit import records, rows
from embedstream.dead_letters.letter import Place, of_record
from embedstream.decode.message import Delete
from embedstream.errors import Rejected
from embedstream.journey.report import EXCERPT, Entry, Row, Version, by_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import psycopg
    from confluent_kafka import Message
    from psycopg.sql import Composed

    from embedstream.audit.comparison import Comparison
    from embedstream.decode.message import Item, Record
    from embedstream.journey.scan import Seeker
    from embedstream.settings import Settings


class Found:
    """Records about the ids: of the topic (`sent`), behind an open transaction (`held`), and their dead letters."""

    def __init__(self, ids: Sequence[str], seeker: Seeker) -> None:
        self.ids = ids
        self.seeker = seeker
        self.sent: dict[tuple[int, int], Message] = {}
        self.held: dict[tuple[int, int], Message] = {}
        self.letters: list[Message] = []

    def has(self, record: Record) -> bool:
        return not set(self.ids).isdisjoint(self.seeker.ids(record))


class Judged(NamedTuple):
    """By id, but the versions; `kinds` are the audit's findings."""

    versions: tuple[Version, ...]
    entries: dict[str, Entry]
    rows: dict[str, Row]
    kinds: dict[str, str]


class _Fate(NamedTuple):
    content_hash: bytes | None
    outcome: str
    stage: str | None
    code: str | None


def judge(settings: Settings, connection: psycopg.Connection[Any], comparison: Comparison, found: Found) -> Judged:
    """All of it looks at one snapshot of the database."""
    sql = store.statements(
        settings.pgvector_table, "journey.sql", documents=store.documents_for(settings),
        outcomes=comparison.sql["outcomes"],
    )  # fmt: skip
    facts: dict[str, Any] = {"ids": list(found.ids), "topic": settings.kafka_input_topic}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        store.see_pgvector(connection)
        entries = {id: Entry(*entry) for id, *entry in connection.execute(sql["entries"], facts)}
        sent = list(_with_ledgers(settings, comparison, found, entries.values()).values())
        lines = rows.sent(sent, found.seeker.decode, found.seeker.headers)
        for statement, block in (
            ("copy_sent", lines), ("copy_dead", rows.dead(found.letters, settings.kafka_input_topic))
        ):  # fmt: skip
            list(comparison.load(statement, [(block.encode(), len(sent))]))
        comparison.judge()
        fates = {
            (number, offset, item): _Fate(*fate)
            for number, offset, item, *fate in connection.execute(sql["list_outcomes"], facts)
        }
        verdicts = connection.execute(sql["list_verdicts"], facts).fetchall()
        stored = dict(_rows(settings, connection, sql, found.ids))
    entries |= {id: replace(entries[id], origin=origin) for id, _, origin in verdicts if id in entries}
    return Judged(_versions(found, fates, entries), entries, stored, {id: kind for id, kind, _ in verdicts if kind})


def _with_ledgers(
    settings: Settings, comparison: Comparison, found: Found, entries: Iterable[Entry]
) -> Mapping[tuple[int, int], Message]:
    """Also the records that made what stands, wherever they are: without them it would seem to come from nowhere."""
    topic = settings.kafka_input_topic
    places = {(each.partition, each.offset) for each in entries if each.topic == topic} - found.sent.keys()
    there = comparison.standing.log.there(places)
    others: dict[tuple[int, int], Message] = {}
    for message in records.fetch(settings, topic, there):
        place = message.partition() or 0, message.offset() or 0
        others[place] = message
        if found.has(found.seeker.record(message)):
            found.sent[place] = message
    return others | found.sent


def _rows(
    settings: Settings, connection: psycopg.Connection[Any], sql: Mapping[str, Composed], ids: Iterable[str]
) -> Iterator[tuple[str, Row]]:
    statement = sql["document" if settings.is_chunked else "row"]
    for id in ids:
        for facts in connection.execute(statement, {"id": id, "most": EXCERPT}):
            yield id, Row(*facts)


def _versions(
    found: Found, fates: Mapping[tuple[int, int, int], _Fate], entries: Mapping[str, Entry]
) -> tuple[Version, ...]:
    reasons = {facts.origin: facts.reason for facts in (of_record(message).facts for message in found.letters)}
    hashes: dict[Version, bytes | None] = {}
    for message in found.sent.values():
        for version in _of_record(found, found.seeker.record(message)):
            fate = fates.get((version.partition, version.offset, version.item))
            if fate:
                reason = reasons.get(Place(version.partition, version.offset)) or version.reason
                code, stage = fate.code or version.code, fate.stage or version.stage
                told = replace(version, outcome=fate.outcome, stage=stage, code=code, reason=reason)
                hashes[told] = fate.content_hash
    held = [version for message in found.held.values() for version in _of_record(found, found.seeker.record(message))]
    expired = [_expired(id, entry) for id, entry in entries.items() if entry.origin == "expired"]
    return by_time([*_with_unchanged(hashes), *held, *expired])


def _of_record(found: Found, record: Record) -> Iterator[Version]:
    """What came of it for the ids; of a record that asks for nothing, one version."""
    items = found.seeker.items(record)
    recorded = datetime.fromtimestamp(record.timestamp / 1000, UTC) if record.timestamp >= 0 else None
    keyed = found.seeker.keyed(record)
    waits = "behind_transaction"
    if isinstance(items, Rejected) or not items:
        id = next(iter(found.seeker.ids(record)), None)
        asks = "rejected" if items else "filtered"
        version = Version(id, record.partition, record.offset, 0, recorded, None, asks, waits, keyed=id in keyed)
        if isinstance(items, Rejected):
            version = replace(version, stage=items.stage, code=items.code, reason=items.reason)
        yield version
        return
    for item in items:
        if item.id in found.ids:
            yield _of_item(item, recorded, waits, keyed=item.id in keyed)


def _of_item(item: Item, recorded: datetime | None, outcome: str, *, keyed: bool) -> Version:
    text = None if isinstance(item, Delete) else item.text
    version = item.version
    return Version(
        item.id, version.partition, version.offset, version.item, recorded, version.event_time,
        "delete" if isinstance(item, Delete) else "message", outcome, text and text[:EXCERPT],
        None if text is None else len(text), keyed=keyed,
    )  # fmt: skip


def _expired(id: str, entry: Entry) -> Version:
    asks = "delete" if entry.state == "deleted" else "message"
    return Version(id, entry.partition, entry.offset, entry.item, None, entry.event_time, asks, "expired")


def _with_unchanged(hashes: Mapping[Version, bytes | None]) -> Iterator[Version]:
    """What is stored with the text of the version before it brought no vector of its own."""
    for version, hash_ in hashes.items():
        last = _last_before(version, hashes) if version.outcome == "stored" else None
        is_unchanged = last is not None and hash_ is not None and hashes[last] == hash_
        yield replace(version, outcome="unchanged") if is_unchanged else version


def _last_before(version: Version, others: Iterable[Version]) -> Version | None:
    before = (
        other
        for other in others
        if other.id == version.id and other.outcome == "superseded" and other.came_before(version)
    )
    return max(before, key=_order, default=None)


def _order(version: Version) -> tuple[Any, ...]:
    return version.event_time, version.partition, version.offset, version.item
