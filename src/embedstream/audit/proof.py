"""Reads the topics into temporary tables, and has the database compare them with the table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstream import kafka, store
from embedstream.audit import records, rows
from embedstream.audit.chunks import Document, is_sound
from embedstream.audit.mend import mend
from embedstream.audit.reading import lines
from embedstream.audit.report import Dead, Finding, Outcomes, Report
from embedstream.audit.statements import statements_of
from embedstream.display import progress
from embedstream.embedding import EmbeddingClient
from embedstream.errors import ConfigError
from embedstream.ingest import Embedded
from embedstream.retry import Patience
from embedstream.splitting import splitter_of
from embedstream.standing import Standing, Trouble, stand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import psycopg
    from psycopg.sql import Composed

    from embedstream.audit.reading import Block
    from embedstream.decode.chunks import Splitter
    from embedstream.settings import Settings
    from embedstream.space import Space

_LEAST_COSINE = 0.9999
_STEPS = ("match_dead", "once_dead", "drop_stored_dead", "inherit", "find_heads", "judge", "find_older")


class Wishes(NamedTuple):
    """How thorough an audit is, and what follows from it."""

    sample: int = 0
    limit: int = 20
    repair: bool = False
    dry_run: bool = False


_ONLY_LOOK = Wishes()


def audit(settings: Settings, wishes: Wishes = _ONLY_LOOK) -> Report:
    """Compare the table with the topic, and mend what differs where that is wished.

    Raises ConfigError, or RetryLater, where a part of the world does not answer.
    """
    with store.database(settings, long=True) as connection:
        store.need_session(connection, "an audit")
        space = store.pinned_space(connection, settings)
        store.check_order(store.read_terms(connection, settings), settings)
        proof = _Proof(settings, connection, space)
        proof.read_topics()
        report = proof.compare(wishes)
        if wishes.repair or wishes.dry_run:
            _refuse_moved(report)
            mended = mend(settings, connection, proof.sql, dry_run=wishes.dry_run)
            report = replace(report, repair=mended)
        return report


def _refuse_moved(report: Report) -> None:
    if "moved" in report.kinds:
        raise ConfigError(f"nothing is repaired: {report.troubles[0]}")


class _Proof:
    def __init__(self, settings: Settings, connection: psycopg.Connection[Any], space: Space) -> None:
        self.sql = statements_of(settings)
        self._settings = settings
        self._connection = connection
        self._space = space
        self._topic = settings.kafka_input_topic
        self._standing: Standing

    def read_topics(self) -> None:
        """Progress and offsets come first: what lies below them has reached the table or the dead letters by now."""
        settings = self._settings
        self._connection.execute(self.sql["create_tables"])
        self._standing = stand(settings, store.read_progress(self._connection, settings))
        if not self._standing.log.positions:
            raise ConfigError(f"there is no topic {self._topic} yet: embedstream submit makes it")
        ranges = [records.Range(each.partition, each.first, each.stable) for each in self._standing.log.positions]
        self._load("copy_sent", self._topic, ranges, lines(settings, ranges, self._space.model_name))
        self._read_dead_letters()

    def _read_dead_letters(self) -> None:
        topic = self._settings.kafka_dead_letter_topic
        ranges = [records.Range(number, *ends) for number, ends in kafka.extent(self._settings, topic).items()]
        batches = records.read(self._settings, topic, ranges)
        blocks = ((rows.dead(messages, self._topic).encode(), len(messages)) for messages in batches)
        self._load("copy_dead", topic, ranges, blocks)

    def _load(self, statement: str, topic: str, ranges: Sequence[records.Range], blocks: Iterable[Block]) -> None:
        """Copy blocks of lines into a temporary table, and show how much of the topic they cover."""
        total, done = sum(each.end - each.first for each in ranges), 0
        with (
            progress(f"reading {topic}", total) as update,
            self._connection.cursor() as cursor,
            cursor.copy(self.sql[statement]) as copy,
        ):
            for block, span in blocks:
                copy.write(block)
                update(done := done + span)

    def compare(self, wishes: Wishes) -> Report:
        """All of it looks at one snapshot of the database."""
        with self._connection.transaction():
            self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._execute("SET LOCAL work_mem = '64MB'")
            store.see_pgvector(self._connection)
            self._execute(self.sql["count_ids"])  # takes the snapshot
            self._add_ranges()
            self._judge()
            if splitter := splitter_of(self._settings, self._space):
                self._cut_again(splitter)
            sampled = self._sample(wishes.sample) if wishes.sample else 0
            return self._report(sampled, wishes.limit)

    def _execute(self, statement: str | Composed, facts: Mapping[str, object] | None = None) -> list[Any]:
        cursor = self._connection.execute(statement, facts)
        return cursor.fetchall() if cursor.description else []

    def _add_ranges(self) -> None:
        """Offsets that the ledger has by now lie below what the topic's end is by now.

        What was settled of another topic says nothing of this one.
        """
        latest = {each.partition: each for each in kafka.positions(self._settings)}
        former = self._standing.another_topic is not None
        for each in self._standing.log.positions:
            now = latest.get(each.partition, each)
            settled = 0 if former else each.settled
            known = self._standing.progress.get(each.partition)
            mapped_from = known.mapped_from if known else 0
            row = (each.partition, max(each.first, now.first), each.stable, settled, now.end, mapped_from)
            self._connection.execute(self.sql["add_range"], row)

    def _judge(self) -> None:
        identity = self._standing.identity
        facts = {
            "topic": self._topic,
            "topic_id": identity.topic_id if identity else None,
            "former": self._standing.another_topic is not None,
            "compacted": records.is_compacted(self._settings, self._topic),
            **self._space._asdict(),
        }
        with progress("comparing") as update:
            self._execute("ANALYZE sent")
            for done, name in enumerate(_STEPS, 1):
                if name != "inherit" or not self._has_prefix:
                    self._execute(self.sql[name], facts)
                update(done)
            self._execute("ANALYZE verdicts")

    def _cut_again(self, splitter: Splitter) -> None:
        """Documents that do not have the very chunks that their text gives become findings."""
        store.check_splitting(store.read_splitting(self._connection, self._settings), splitter.identity, self._settings)
        total, wrong = self._count("count_documents"), []
        with (
            progress("cutting", total) as update,
            self._connection.cursor(name="documents", binary=True) as cursor,
        ):
            cursor.execute(self.sql["read_documents"])
            for done, (id, *facts) in enumerate(cursor, 1):
                if not is_sound(Document(*facts), splitter):
                    wrong.append(id)
                update(done)
        self._execute(self.sql["condemn"], {"kind": "bad_chunks", "ids": wrong})

    @property
    def _has_prefix(self) -> bool:
        """The hash of a text that was left out follows from no other, where a prefix of its own goes into it."""
        chunks = self._settings.chunks
        return bool(chunks and chunks.prefix)

    def _sample(self, count: int) -> int:
        """Embed rows again; those whose vector is another become findings."""
        chosen = self._execute(self.sql["sample"], {"count": count})
        with EmbeddingClient(self._settings, self._space, Patience()) as client:
            results = [pair for chunk in client.embed([text for _, text, _ in chosen]) for pair in chunk]
        wrong = [chosen[at][0] for at, result in results if not _alike(chosen[at][2], result)]
        self._execute(self.sql["condemn"], {"kind": "bad_vector", "ids": wrong})
        return len(chosen)

    def _report(self, sampled: int, limit: int) -> Report:
        topic, log = {"topic": self._topic}, self._standing.log
        outcomes: Counter[str] = Counter()
        letters = []
        for outcome, stage, code, count in self._execute(self.sql["account"], topic):
            outcomes[outcome] += count
            if outcome == "dead":
                letters.append(Dead(stage, code, count))
        ids, moved = self._count("count_ids"), self._count("count_moved")
        messages, exploded = self._execute(self.sql["count_messages"])[0]
        counts = self._counts()
        lost = self._count("count_lost", counts._asdict()) if counts else 0
        origins: dict[str, int] = dict(self._execute(self.sql["count_origins"]))
        self._execute(self.sql["add_unexplained"], topic)
        self._execute(self.sql["drop_equal"])
        kinds = dict(self._execute(self.sql["count_findings"]))
        return Report(
            self._topic, self._settings.pgvector_table, messages, ids, Outcomes(**outcomes),
            exploded=exploded, dead_letters=tuple(letters),
            expired=origins.get("expired", 0) + origins.get("forgotten", 0),
            newer=origins.get("newer", 0), other_topics=origins.get("elsewhere", 0), sampled=sampled,
            kinds=kinds
            | ({"moved": moved} if moved or self._standing.another_topic else {})
            | ({"lost": lost} if lost else {}),
            findings=tuple(
                Finding(kind, id, _place(*places[:2]), _place(*places[2:]))
                for kind, id, *places in self._execute(self.sql["list_findings"], {"limit": limit})
            ),
            moved=moved, behind_transaction=log.behind_transaction,
            expired_unread=sum(each.expired_unread for each in log.positions),
            troubles=self._troubles(moved, counts, kinds.get("older_mapping", 0)),
        )  # fmt: skip

    def _counts(self) -> store.Counts | None:
        if not store.keeps_progress(self._connection, self._settings):
            return None
        return store.read_counts(self._connection, self._settings)

    def _count(self, statement: str, facts: Mapping[str, object] | None = None) -> int:
        return int(self._execute(self.sql[statement], facts)[0][0] or 0)

    def _troubles(self, moved: int, counts: store.Counts | None, older: int) -> tuple[str, ...]:
        """That places are of another topic comes first."""
        found = list(self._standing.troubles(self._settings.health_max_age_seconds))
        back = store.read_forgotten(self._connection, self._settings)
        if losses := store.losses(counts) if counts else "":
            found.append(Trouble(losses, "embedstream submit --replace reads again what the topic still has"))
        if older:
            fact = f"{older:,} ids are not as the mapping has them, but come of records from before it changed"
            found.append(Trouble(fact, "embedstream pipelines apply --replay reads the topic again with it"))
        if moved and not self._standing.another_topic:
            fact = f"{moved:,} ids stand in the ledger at places of another topic {self._topic}, which was made anew"
            remedy = "embedstream submit --adopt-topic takes this one for it, from its first record on"
            found.insert(0, Trouble(f"{fact} or copied", remedy))
        return (*map(str, found), *back)


def _place(partition: int | None, offset: int | None) -> str | None:
    return None if partition is None else f"{partition}/{offset}"


def _alike(stored: list[float], result: object) -> bool:
    if not isinstance(result, Embedded):
        return False
    ours, theirs = np.array(stored, np.float64), result.vector.astype(np.float64)
    return bool(ours @ theirs >= _LEAST_COSINE * np.linalg.norm(ours) * np.linalg.norm(theirs))
