"""What was read of the topics, in temporary tables of one connection, held against the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream import kafka, store
from embedstream.audit import records
from embedstream.audit.chunks import Document, is_sound
from embedstream.audit.statements import narrowed_statements, statements_of
from embedstream.splitting import splitter_of
from embedstream.standing import Standing, stand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import psycopg
    from psycopg.sql import Composed

    from embedstream.audit.reading import Block
    from embedstream.decode.chunks import Splitter
    from embedstream.display import Watch
    from embedstream.settings import Settings
    from embedstream.space import Space

_STEPS = ("match_dead", "once_dead", "drop_stored_dead", "inherit", "find_heads", "judge", "find_older")


class Comparison:
    """Of the whole table, or of some `ids` only: then the topic's records of these are enough.

    In this order: begin, load what was read since, judge in a transaction that has its snapshot by then; until it
    judges, `ids` may grow. `has_all` says whether all records of the ids were read: where some may be missing, a text
    that was left out is that of no version that happens to be there.
    """

    def __init__(
        self,
        settings: Settings,
        connection: psycopg.Connection[Any],
        space: Space,
        watch: Watch,
        ids: list[str] | None = None,
    ) -> None:
        self.sql = statements_of(settings) if ids is None else narrowed_statements(settings)
        self.standing: Standing
        self.has_all = True
        self._settings = settings
        self._connection = connection
        self._space = space
        self._topic = settings.kafka_input_topic
        self._watch = watch
        self._ids = {} if ids is None else {"ids": ids}

    def begin(self) -> Standing:
        """Progress and offsets come first: what lies below them has reached the table or the dead letters by now."""
        self._connection.execute(self.sql["create_tables"])
        self.standing = stand(self._settings, store.read_progress(self._connection, self._settings))
        return self.standing

    def load(self, statement: str, blocks: Iterable[Block]) -> Iterator[int]:
        """Copy blocks of lines into a temporary table; yields how many records that makes so far."""
        done = 0
        with self._connection.cursor() as cursor, cursor.copy(self.sql[statement]) as copy:
            for block, span in blocks:
                copy.write(block)
                yield (done := done + span)

    def judge(self) -> None:
        """Fill the table `verdicts`."""
        self._add_ranges()
        self._judge()
        also = store.read_service(self._connection, self._settings).url
        if splitter := splitter_of(self._settings, self._space, also):
            self._cut_again(splitter)

    def execute(self, name: str, facts: Mapping[str, object] | None = None) -> list[Any]:
        """The rows of a statement's answer."""
        return self.ask(self.sql[name], facts)

    def ask(self, statement: Composed, facts: Mapping[str, object] | None = None) -> list[Any]:
        given = facts and {**facts, **self._ids}
        cursor = self._connection.execute(statement, given or self._ids or None)
        return cursor.fetchall() if cursor.description else []

    def count(self, name: str, facts: Mapping[str, object] | None = None) -> int:
        return int(self.execute(name, facts)[0][0] or 0)

    def _add_ranges(self) -> None:
        """Offsets that the ledger has by now lie below what the topic's end is by now.

        What was settled of another topic says nothing of this one.
        """
        latest = {each.partition: each for each in kafka.positions(self._settings)}
        former = self.standing.another_topic is not None
        for each in self.standing.log.positions:
            now = latest.get(each.partition, each)
            settled = 0 if former else each.settled
            known = self.standing.progress.get(each.partition)
            mapped_from = known.mapped_from if known else 0
            row = (each.partition, max(each.first, now.first), each.stable, settled, now.end, mapped_from)
            self._connection.execute(self.sql["add_range"], row)

    def _judge(self) -> None:
        identity = self.standing.identity
        facts = {
            "topic": self._topic,
            "topic_id": identity.topic_id if identity else None,
            "former": self.standing.another_topic is not None,
            "compacted": records.is_compacted(self._settings, self._topic),
            **self._space._asdict(),
        }
        with self._watch("comparing", None) as update:
            self._connection.execute("ANALYZE sent")
            for done, name in enumerate(_STEPS, 1):
                if name != "inherit" or (self.has_all and not self._has_prefix):
                    self.execute(name, facts)
                update(done)
            self._connection.execute("ANALYZE verdicts")

    def _cut_again(self, splitter: Splitter) -> None:
        """Documents that do not have the very chunks that their text gives become findings."""
        store.check_splitting(store.read_splitting(self._connection, self._settings), splitter.identity, self._settings)
        total, wrong = self.count("count_documents"), []
        with (
            self._watch("cutting", total) as update,
            self._connection.cursor(name="documents", binary=True) as cursor,
        ):
            cursor.execute(self.sql["read_documents"], self._ids or None)
            for done, (id, *facts) in enumerate(cursor, 1):
                if not is_sound(Document(*facts), splitter):
                    wrong.append(id)
                update(done)
        self.execute("condemn", {"kind": "bad_chunks", "wrong": wrong})

    @property
    def _has_prefix(self) -> bool:
        """The hash of a text that was left out follows from no other, where a prefix of its own goes into it."""
        chunks = self._settings.chunks
        return bool(chunks and chunks.prefix)
