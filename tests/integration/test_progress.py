"""The table knows how far it is, and notices when it is not where it was."""

import json

import psycopg
import pytest

from embedstream import store
from embedstream.decode.default import decoder
from embedstream.decode.message import Record, Rules
from embedstream.errors import StoreUnavailable
from embedstream.ingest import Ingest
from embedstream.retry import Patience
from embedstream.space import Space
from support.fakes import HashEmbedder

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)
T0 = 1_764_000_000_000
PROGRESS = "text_message_embeddings_progress"


class GivesUp(Exception):
    """Raised instead of a wait."""


def no_wait(_):
    raise GivesUp


@pytest.fixture
def settings(database):
    store.prepare(database, SPACE)
    return database.model_copy(update={"kafka_input_topic": "t"})


@pytest.fixture
def writer(settings):
    """Makes writers, as each slot of the job has one."""
    tables = []

    def make(has_record=None, **options):
        tables.append(store.TableStore(settings, SPACE, has_record))
        return Ingest(HashEmbedder(**options), tables[-1], decoder(Rules("org/model", 1000)), Patience(sleep=no_wait))

    yield make
    for table in tables:
        table.close()


def record(id, text, offset, partition=0, at=None, **fields):
    value = None if text is None else json.dumps({"text": text, **fields}).encode()
    return Record(id.encode(), value, "t", partition, offset, T0 + (offset if at is None else at))


def query(settings, sql, *parameters):
    with store.connect(settings) as connection:
        cursor = connection.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def stands(settings):
    with store.connect(settings) as connection:
        return {number: each.next for number, each in store.read_progress(connection, settings).items()}


def counts(settings):
    with store.connect(settings) as connection:
        return store.read_counts(connection, settings)


def test_a_batch_moves_each_of_its_partitions_on(writer, settings):
    ingest = writer()
    ingest([record("a", "x", 4), record("b", "y", 9, partition=1), record("c", "z", 6)])
    assert stands(settings) == {0: 7, 1: 10}
    ingest([record("d", "x", 7)])
    assert stands(settings) == {0: 8, 1: 10}
    ingest([record("a", "x", 4)])
    assert stands(settings) == {0: 8, 1: 10}


@pytest.mark.parametrize(
    "again",
    [
        record("a", "older", 7, at=1), record("a", None, 7, at=1), Record(None, b"no json", "t", 0, 7, T0),
        record("b", "a poison", 7), record("a", "x", 7, metadata={"n": 1}),
    ],
)  # fmt: skip
def test_a_batch_that_changes_little_or_nothing_moves_on_too(writer, settings, again):
    ingest = writer(poison=["poison"])
    ingest([record("a", "x", 5)])
    ingest([again])
    assert stands(settings) == {0: 8}


def test_progress_waits_for_the_last_record_of_the_batch(writer, settings):
    """Chunks before the last one are committed without it."""
    seen = []

    class Slow(HashEmbedder):
        def embed(self, texts):
            for chunk in super().embed(texts):
                seen.append((stands(settings), counts(settings).rows))
                yield chunk

    ingest = writer()
    ingest._embedder = Slow(chunk=1)
    ingest([record(str(n), f"text {n}", n) for n in range(3)])
    assert seen == [({0: 0}, 0), ({0: 0}, 1), ({0: 0}, 2)]
    assert stands(settings) == {0: 3}


def test_rows_and_progress_are_committed_together_or_not_at_all(writer, settings):
    query(settings, f"ALTER TABLE {PROGRESS} ADD CHECK (next < 5)")
    ingest = writer()
    ingest([record("a", "x", 1)])
    with pytest.raises((GivesUp, psycopg.Error)):
        ingest([record("b", "y", 9)])
    assert (stands(settings), counts(settings).rows) == ({0: 2}, 1)


def test_records_that_lose_only_by_their_time_are_late_and_counted(writer, settings):
    ingest = writer()
    outcomes = ingest([record("a", "ahead", 5, at=1_800_000), record("a", None, 6), record("b", "x", 7)])
    assert [outcome.kind for outcome in outcomes] == ["stored", "late", "stored"]
    (late,) = ingest([record("a", None, 8)])
    assert late.kind == "late"
    assert query(settings, f"SELECT next, late FROM {PROGRESS}") == [(9, 2)]


@pytest.mark.parametrize(
    "loser",
    [
        record("a", "said so itself", 6, at=0, timestamp="2025-01-01T00:00:00Z"), record("a", "before it", 4, at=0),
        record("a", "of another partition", 6, partition=1, at=0),
    ],
)  # fmt: skip
def test_what_loses_for_another_reason_is_superseded(writer, settings, loser):
    ingest = writer()
    ingest([record("a", "x", 5, at=9)])
    assert [outcome.kind for outcome in ingest([loser])] == ["superseded"]


def test_by_record_the_later_record_wins_whatever_its_clock_says(writer, settings):
    ingest = writer()
    ingest._decode = decoder(Rules("org/model", 1000, "record"))
    outcomes = ingest([record("a", "ahead", 5, at=1_800_000), record("a", "x", 6), record("a", None, 7, at=-9)])
    assert [outcome.kind for outcome in outcomes] == ["superseded", "superseded", "deleted"]
    assert counts(settings).rows == 0


GOES_BACK = {
    "restored": f"UPDATE {PROGRESS} SET next = 3",
    "its row gone": f"DELETE FROM {PROGRESS}",
    "truncated": f"TRUNCATE {PROGRESS}",
}


@pytest.mark.parametrize("how", GOES_BACK)
def test_a_writer_notices_that_the_database_went_back_and_says_so_there(writer, settings, how):
    ingest = writer()
    ingest([record("a", "x", 9)])
    query(settings, GOES_BACK[how])
    with pytest.raises(GivesUp):
        ingest([record("b", "y", 10)])
    assert query(settings, "SELECT id FROM text_message_embeddings") == [("a",)]
    with store.connect(settings) as connection:
        (line,) = store.read_forgotten(connection, settings)
    assert "had been at 10" in line
    with pytest.raises(GivesUp):
        ingest([record("b", "y", 10)])


def test_a_database_that_comes_back_to_where_it_was_is_gone_on_with(writer, settings):
    ingest = writer()
    ingest([record("a", "x", 9)])
    query(settings, f"UPDATE {PROGRESS} SET next = 3")
    with pytest.raises(GivesUp):
        ingest([record("b", "y", 10)])
    query(settings, f"UPDATE {PROGRESS} SET next = 10")
    ingest([record("b", "y", 10)])
    assert query(settings, f"SELECT next, back_from FROM {PROGRESS}") == [(11, None)]


def test_a_new_writer_asks_the_log_about_what_lies_before_its_first_record(writer, settings):
    """A restart by Flink forgets what the writer had seen; markers and compaction leave gaps without records."""
    asked = []

    def has_record(*gap):
        asked.append(gap)
        return gap[3] != 20

    writer(lambda *_: False)([record("a", "x", 4)])
    with pytest.raises(GivesUp):
        writer(has_record)([record("b", "y", 8)])
    assert asked == [("t", 0, 5, 8)]
    writer(has_record)([record("b", "y", 5)])
    writer(has_record)([record("c", "z", 20)])
    assert asked[1:] == [("t", 0, 6, 20)]
    assert stands(settings) == {0: 21}


def test_a_table_that_was_made_anew_under_a_writer_is_not_taken_for_one_that_has_all(writer, settings):
    ingest = writer(lambda *_: True)
    ingest([record("a", "x", 0)])
    for name in ("text_message_vectors", "text_message_embeddings", *(f"text_message_embeddings_{each}" for each in
                 ("ledger", "space", "progress"))):  # fmt: skip
        query(settings, f"DROP {'VIEW' if 'vectors' in name else 'TABLE'} {name}")
    with pytest.raises(GivesUp):
        ingest([record("b", "y", 1)])
    store.prepare(settings, SPACE)
    for each in (ingest, writer(lambda *_: True)):
        with pytest.raises(GivesUp):
            each([record("b", "y", 1)])
    assert counts(settings).rows == 0


def test_trouble_of_the_log_is_waited_out_like_that_of_the_database(writer, settings):
    def away(*_):
        raise StoreUnavailable("no Kafka")

    writer()([record("a", "x", 4)])
    with pytest.raises(GivesUp):
        writer(away)([record("b", "y", 8)])
    assert query(settings, f"SELECT back_from FROM {PROGRESS}") == [(None,)]


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        ("DELETE FROM text_message_embeddings WHERE id = 'a'", "the table 1 rows"),
        ("TRUNCATE text_message_embeddings", "the table 0 rows"),
        ("TRUNCATE text_message_embeddings, text_message_embeddings_ledger", "3 ids came in, but the ledger has 0"),
        ("DELETE FROM text_message_embeddings_ledger WHERE id = 'c'", "3 ids came in, but the ledger has 2"),
        ("UPDATE text_message_embeddings_ledger SET state = 'deleted', content_hash = NULL WHERE id = 'a'", "2 rows"),
    ],
)
def test_what_is_gone_shows_as_a_difference_of_counts(writer, settings, loss, what):
    writer()([record("a", "x", 1), record("b", "y", 2), record("c", None, 3)])
    assert counts(settings).are_sound
    query(settings, loss)
    assert not counts(settings).are_sound
    assert what in store.losses(counts(settings))
