import json
import threading
from datetime import UTC, datetime

import numpy as np
import pytest

from embedstream import store
from embedstream.decode.default import decoder
from embedstream.decode.message import Delete, Message, Record, Rules, Version, content_hash
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.ingest import Change, Embedded, Ingest
from embedstream.retry import Patience
from embedstream.settings import load_settings
from embedstream.space import Space
from support.fakes import HashEmbedder
from support.stack import wait

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)
T0 = 1_764_000_000_000
T1 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def table(database):
    store.prepare(database, SPACE)
    table = store.TableStore(database, SPACE)
    yield table
    table.close()


def query(settings, sql, *parameters):
    with store.connect(settings) as connection:
        return connection.execute(sql, parameters).fetchall()


def message(id, text, offset=0, **fields):
    moment = datetime(2025, 11, 24, 16, 0, 0, 123_000, UTC)
    version = Version(moment, "t", 0, offset)
    return Message(id, version, text, content_hash(text), moment, fields.get("source"), fields.get("metadata", "{}"))


def embedded(*numbers):
    return Embedded(np.array(numbers, np.float32), 5, False)


def test_a_row_comes_back_as_it_went_in(table, database):
    change = Change(message("é", "some text", source="web", metadata='{"a":[1,null]}'), embedded(0.1, -2, 3e-38, 1e30))
    assert table.write([change]).won == {"é"}
    (row,) = query(
        database,
        "SELECT id, text, embedding, model_name, model_revision, source, message_timestamp, metadata, token_count,"
        " truncated FROM text_message_embeddings",
    )
    vector = np.array([0.1, -2, 3e-38, 1e30], np.float32)
    assert np.array_equal(np.array(row[2], np.float32), vector)
    assert row[:2] + row[3:] == (
        "é", "some text", "org/model", "r1", "web", change.item.timestamp, {"a": [1, None]}, 5, False,
    )  # fmt: skip
    (ledger,) = query(database, "SELECT * FROM text_message_embeddings_ledger")
    *version, item = change.item.version
    assert (*ledger[:7], ledger[8]) == ("é", *version, "live", content_hash("some text"), item)


def test_the_readme_s_query_and_the_view(table, database):
    table.write([Change(message("a", "x"), embedded(1, 0, 0, 0))])
    assert query(database, "SELECT embedding[1:2] FROM text_message_embeddings") == [([1.0, 0.0],)]
    ((distance,),) = query(database, "SELECT embedding <=> '[0,1,0,0]' FROM text_message_vectors")
    assert distance == 1.0


def test_look_up(table):
    table.write([Change(message("a", "x", 1), embedded(1, 0, 0, 0)), Change(Delete("b", message("b", "x").version))])
    known = table.look_up(["a", "b", "c"])
    assert set(known) == {"a", "b"}
    assert known["a"] == (message("a", "x", 1).version, content_hash("x"))
    assert known["b"].content_hash is None


def test_look_up_of_a_row_that_somebody_removed_finds_no_hash(table, database):
    table.write([Change(message("a", "x", 1), embedded(1, 0, 0, 0))])
    with store.connect(database) as connection:
        connection.execute("DELETE FROM text_message_embeddings")
    assert table.look_up(["a"])["a"].content_hash is None
    assert table.write([Change(message("a", "x", 2))]).won == set()
    assert table.write([Change(message("a", "x", 2), embedded(1, 0, 0, 0))]).won == {"a"}


def test_a_change_without_vector_needs_the_very_text(table, database):
    table.write([Change(message("a", "x", 1), embedded(1, 0, 0, 0))])
    assert table.write([Change(message("a", "other", 2))]).won == set()
    assert table.write([Change(message("unknown", "x", 2))]).won == set()
    assert table.write([Change(message("a", "x", 2, metadata='{"n":1}'))]).won == {"a"}
    assert query(database, "SELECT text, embedding, metadata, token_count FROM text_message_embeddings") == [
        ("x", [1.0, 0.0, 0.0, 0.0], {"n": 1}, 5)
    ]
    assert query(database, "SELECT count(*) FROM text_message_embeddings_ledger") == [(1,)]


def test_a_row_that_postgresql_refuses_costs_only_itself(table, database):
    changes = [Change(message(str(n), "x"), embedded(n, 0, 0, 0)) for n in range(20)]
    changes[7] = Change(message("7", "x"), embedded(1, 2, 3))
    changes[13] = Change(message("13", "x", metadata="{"), embedded(1, 2, 3, 4))
    written = table.write(changes)
    assert {id: error.code for id, error in written.rejected.items()} == {"7": "sqlstate_23514", "13": "sqlstate_22P02"}
    assert len(written.won) == 18
    assert query(database, "SELECT count(*) FROM text_message_embeddings_ledger") == [(18,)]


def test_topics_and_ids_compare_by_their_bytes(table):
    """As Python compares them; a locale would put "a" before "B", and both writers must agree."""
    base = message("a", "x")
    lower = base._replace(version=base.version._replace(topic="a"))
    upper = base._replace(version=base.version._replace(topic="B"))
    assert lower.version > upper.version
    table.write([Change(lower, embedded(1, 0, 0, 0))])
    assert table.write([Change(upper, embedded(0, 1, 0, 0))]).won == set()


def test_trouble_of_the_database_is_not_charged_to_a_message(table, database, postgres):
    table.write([Change(message("a", "x"), embedded(1, 0, 0, 0))])
    with postgres.connect() as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.pgvector_db]
        )
    with pytest.raises(StoreUnavailable):
        table.write([Change(message("b", "x"), embedded(1, 0, 0, 0))])
    assert table.write([Change(message("b", "x"), embedded(1, 0, 0, 0))]).won == {"b"}
    with store.connect(database) as connection:
        connection.execute("ALTER TABLE text_message_embeddings RENAME TO elsewhere")
        with pytest.raises(StoreUnavailable):
            table.write([Change(message("c", "x"), embedded(1, 0, 0, 0))])
        connection.execute("ALTER TABLE elsewhere RENAME TO text_message_embeddings")
    assert table.write([Change(message("c", "x"), embedded(1, 0, 0, 0))]).won == {"c"}


def test_two_writers_on_the_same_ids_end_in_the_newest_versions(database):
    store.prepare(database, SPACE)
    ids = [f"id-{n}" for n in range(40)]
    records = [
        Record(
            id.encode(), json.dumps({"text": f"{id} {turn}"}).encode() if turn % 3 else None, "t", 0, turn, T0 + turn
        )
        for turn in range(12)
        for id in ids
    ]
    shuffles = [np.random.default_rng(seed).permutation(len(records)) for seed in (1, 2)]
    failures = []

    def work(order):
        table = store.TableStore(database, SPACE)
        ingest = Ingest(HashEmbedder(), table, decoder(Rules("org/model", 1000)), Patience())
        try:
            for start in range(0, len(order), 60):
                ingest([records[position] for position in order[start : start + 60]])
        except Exception as exc:  # noqa: BLE001
            failures.append(exc)
        table.close()

    threads = [threading.Thread(target=work, args=(order,)) for order in shuffles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    rows = query(database, "SELECT id, text, embedding FROM text_message_embeddings ORDER BY id")
    assert [(id, text) for id, text, _ in rows] == sorted((id, f"{id} 11") for id in ids)
    for _, text, vector in rows:
        assert np.array_equal(np.array(vector, np.float32), HashEmbedder().vector(text))


def test_preparing_is_idempotent_and_pins_the_space(database):
    store.prepare(database, SPACE)
    store.prepare(database, SPACE)
    with store.connect(database) as connection:
        assert store.read_space(connection, database) == SPACE


@pytest.mark.parametrize(
    "other", [SPACE._replace(model_revision="r2"), SPACE._replace(dimension=8), SPACE._replace(model_name="m")]
)
def test_another_space_is_refused_with_what_to_do(database, other):
    store.prepare(database, SPACE)
    with pytest.raises(ConfigError, match=r"set PGVECTOR_TABLE to another table"):
        store.prepare(database, other)


def test_a_branch_of_the_hub_that_moved_is_refused_with_the_commit_to_pin(database):
    store.prepare(database, SPACE, hub_commit="a" * 40)
    store.prepare(database, SPACE, hub_commit="b" * 40)
    with pytest.raises(ConfigError, match=f"set EMBEDDING_MODEL_REVISION={'a' * 40} where the service runs"):
        store.prepare(database, SPACE._replace(model_revision="r2"), hub_commit="b" * 40)
    with pytest.raises(ConfigError, match="start the service with the table's model"):
        store.prepare(database, SPACE._replace(model_name="m"), hub_commit="b" * 40)


def test_the_dimension_that_the_operator_expects_is_checked(database):
    with pytest.raises(ConfigError, match="PGVECTOR_DIMENSION=3"):
        store.prepare(database.model_copy(update={"pgvector_dimension": 3}), SPACE)


def test_a_foreign_table_is_left_alone(database):
    with store.connect(database) as connection:
        connection.execute("CREATE TABLE text_message_embeddings (id int, embedding text)")
    with pytest.raises(ConfigError, match="not one of embedstream's"):
        store.prepare(database, SPACE)


def test_a_table_in_a_schema(database):
    settings = database.model_copy(update={"pgvector_table": "search.docs"})
    with pytest.raises(ConfigError, match="schema"):
        store.prepare(settings, SPACE)
    with store.connect(database) as connection:
        connection.execute("CREATE SCHEMA search")
    store.prepare(settings, SPACE)
    assert query(database, "SELECT count(*) FROM search.docs_vectors") == [(0,)]


def test_a_database_in_another_encoding_is_refused(database, postgres):
    with postgres.connect() as admin:
        admin.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(ConfigError, match="one in UTF8"):
        store.prepare(database.model_copy(update={"pgvector_db": "latin"}), SPACE)


@pytest.mark.parametrize("name", ["", ".", "a.b.c", "a.", "n" * 54])
def test_bad_table_names(name):
    with pytest.raises(ConfigError, match="PGVECTOR_TABLE"):
        store.Names.of(name)


def test_a_database_that_is_away():
    settings = load_settings(pgvector_host="127.0.0.1", pgvector_port=1)
    with pytest.raises(StoreUnavailable, match="PGVECTOR_"), store.database(settings):
        pass


def test_no_table_is_read_whole_by_a_plan_from_when_it_was_small(table, database):
    before = seq_scans(database)
    for start in range(0, 4000, 100):
        batch = [message(str(number), "text", number) for number in range(start, start + 100)]
        again = [message(str(number), "text", number + 9000) for number in range(start, start + 50)]
        gone = [Delete(str(number), Version(T1, "t", 0, number)) for number in range(start + 50, start + 60)]
        table.look_up([item.id for item in batch])
        table.write([Change(item, embedded(1, 2, 3, 4)) for item in batch])
        table.write([Change(item) for item in (*again, *gone)])
    table.close()
    changes = 40 * (100 + 50 + 10)
    wait(lambda: index_entries_read(database) >= changes, 10, "the statistics of the connection that has ended")
    assert index_entries_read(database) < 2 * changes
    assert seq_scans(database) == before


def seq_scans(settings):
    return query(settings, "SELECT relname, seq_scan FROM pg_stat_user_tables ORDER BY 1")


def index_entries_read(settings):
    [(total,)] = query(settings, "SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes")
    return total
