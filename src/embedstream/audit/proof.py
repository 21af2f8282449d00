"""Reads the topics into temporary tables, and has the database compare them with the table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream import kafka, services, store
from embedstream.audit import beside, records, rows
from embedstream.audit.comparison import Comparison
from embedstream.audit.mend import mend
from embedstream.audit.reading import lines
from embedstream.audit.report import Dead, Finding, Outcomes, Report
from embedstream.display import progress
from embedstream.embedding import EmbeddingClient
from embedstream.errors import ConfigError
from embedstream.retry import Patience
from embedstream.standing import Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    from embedstream.audit.reading import Block
    from embedstream.display import Watch
    from embedstream.settings import Settings
    from embedstream.space import Space


class Wishes(NamedTuple):
    """How thorough an audit is, and what follows from it."""

    sample: int = 0
    limit: int = 20
    repair: bool = False
    dry_run: bool = False


_ONLY_LOOK = Wishes()


def audit(settings: Settings, wishes: Wishes = _ONLY_LOOK, watch: Watch = progress) -> Report:
    """Compare the table with the topic, and mend what differs where that is wished; `watch` sees how far it is.

    Raises ConfigError, or RetryLater, where a part of the world does not answer.
    """
    with store.database(settings, long=True) as connection:
        store.need_session(connection, "an audit")
        space = store.pinned_space(connection, settings)
        store.check_order(store.read_terms(connection, settings), settings)
        proof = _Proof(settings, connection, space, watch)
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
    def __init__(self, settings: Settings, connection: psycopg.Connection[Any], space: Space, watch: Watch) -> None:
        self._settings = settings
        self._connection = connection
        self._space = space
        self._topic = settings.kafka_input_topic
        self._watch = watch
        self._comparison = Comparison(settings, connection, space, watch)
        self.sql = self._comparison.sql
        self._execute = self._comparison.execute
        self._count = self._comparison.count

    def read_topics(self) -> None:
        settings = self._settings
        positions = self._comparison.begin().log.positions
        if not positions:
            raise ConfigError(f"there is no topic {self._topic} yet: embedstream submit makes it")
        ranges = [records.Range(each.partition, each.first, each.stable) for each in positions]
        self._load("copy_sent", self._topic, ranges, lines(settings, ranges, self._models()))
        self._read_dead_letters()

    def _models(self) -> list[str]:
        """Those that a message may name."""
        return [self._space.model_name, *store.read_service(self._connection, self._settings).former_models]

    def _read_dead_letters(self) -> None:
        topic = self._settings.kafka_dead_letter_topic
        ranges = [records.Range(number, *ends) for number, ends in kafka.extent(self._settings, topic).items()]
        batches = records.read(self._settings, topic, ranges)
        blocks = ((rows.dead(messages, self._topic).encode(), len(messages)) for messages in batches)
        self._load("copy_dead", topic, ranges, blocks)

    def _load(self, statement: str, topic: str, ranges: Sequence[records.Range], blocks: Iterable[Block]) -> None:
        """Copy blocks of lines into a temporary table, and show how much of the topic they cover."""
        total = sum(each.end - each.first for each in ranges)
        with self._watch(f"reading {topic}", total) as update:
            for done in self._comparison.load(statement, blocks):
                update(done)

    def compare(self, wishes: Wishes) -> Report:
        """All of it looks at one snapshot of the database."""
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if not store.still_holds(self._connection, self._settings, self._space):
                raise ConfigError(
                    f"table {self._settings.pgvector_table} went to another model during the audit: run it again"
                )
            self._connection.execute("SET LOCAL work_mem = '64MB'")
            store.see_pgvector(self._connection)
            self._comparison.judge()
            sampled = self._sample(wishes.sample) if wishes.sample else 0
            other = beside.look(self._connection, self._settings, wishes.sample)
            return self._report(sampled, wishes.limit, other)

    def _sample(self, count: int) -> int:
        """Embed rows again; those whose vector is another become findings."""
        chosen = self._execute("sample", {"count": count})
        also = store.read_service(self._connection, self._settings).url
        least = beside.least_cosine(lambda: services.find(self._settings)[0])
        with EmbeddingClient(self._settings, self._space, Patience(), also=also) as client:
            wrong = [id for id, is_alike in beside.alike(client, chosen, least).items() if not is_alike]
        self._execute("condemn", {"kind": "bad_vector", "wrong": wrong})
        return len(chosen)

    def _report(self, sampled: int, limit: int, other: beside.Beside | None) -> Report:
        topic, standing = {"topic": self._topic}, self._comparison.standing
        outcomes: Counter[str] = Counter()
        letters = []
        for outcome, stage, code, count in self._execute("account", topic):
            outcomes[outcome] += count
            if outcome == "dead":
                letters.append(Dead(stage, code, count))
        ids, moved = self._count("count_ids"), self._count("count_moved")
        messages, exploded = self._execute("count_messages")[0]
        counts = self._counts()
        lost = self._count("count_lost", counts._asdict()) if counts else 0
        origins: dict[str, int] = dict(self._execute("count_origins"))
        self._execute("add_unexplained", topic)
        self._execute("drop_equal")
        kinds = dict(self._execute("count_findings"))
        return Report(
            self._topic, self._settings.pgvector_table, messages, ids, Outcomes(**outcomes),
            exploded=exploded, dead_letters=tuple(letters),
            expired=origins.get("expired", 0) + origins.get("forgotten", 0),
            newer=origins.get("newer", 0), other_topics=origins.get("elsewhere", 0), sampled=sampled,
            kinds=kinds
            | ({"moved": moved} if moved or standing.another_topic else {})
            | ({"lost": lost} if lost else {})
            | ({"beside": other.wrong} if other and other.wrong else {}),
            findings=tuple(
                Finding(kind, id, _place(*places[:2]), _place(*places[2:]))
                for kind, id, *places in self._execute("list_findings", {"limit": limit})
            ),
            moved=moved, behind_transaction=standing.log.behind_transaction,
            expired_unread=sum(each.expired_unread for each in standing.log.positions),
            troubles=self._troubles(moved, counts, kinds.get("older_mapping", 0)), beside=other,
        )  # fmt: skip

    def _counts(self) -> store.Counts | None:
        if not store.keeps_progress(self._connection, self._settings):
            return None
        return store.read_counts(self._connection, self._settings)

    def _troubles(self, moved: int, counts: store.Counts | None, older: int) -> tuple[str, ...]:
        """That places are of another topic comes first."""
        standing = self._comparison.standing
        found = list(standing.troubles(self._settings.health_max_age_seconds))
        back = store.read_forgotten(self._connection, self._settings)
        if losses := store.losses(counts) if counts else "":
            found.append(Trouble(losses, "embedstream submit --replace reads again what the topic still has"))
        if older:
            fact = f"{older:,} ids are not as the mapping has them, but come of records from before it changed"
            found.append(Trouble(fact, "embedstream pipelines apply --replay reads the topic again with it"))
        if moved and not standing.another_topic:
            fact = f"{moved:,} ids stand in the ledger at places of another topic {self._topic}, which was made anew"
            remedy = "embedstream submit --adopt-topic takes this one for it, from its first record on"
            found.insert(0, Trouble(f"{fact} or copied", remedy))
        return (*map(str, found), *back)


def _place(partition: int | None, offset: int | None) -> str | None:
    return None if partition is None else f"{partition}/{offset}"
