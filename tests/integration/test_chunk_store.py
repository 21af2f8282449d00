"""The store of documents: what stands in the table after one version follows another."""

import itertools
from datetime import UTC, datetime

import numpy as np
import pytest

from embedstream import store
from embedstream.decode.chunks import Splitter
from embedstream.decode.message import Delete, Message, Version, content_hash, embedded_text
from embedstream.decode.spec import Chunks
from embedstream.documents import Chunked
from embedstream.errors import ConfigError
from embedstream.ingest import Change, Step
from embedstream.space import Space
from support.fakes import HashEmbedder
from support.search import nearest, where
from support.stack import wait
from support.threads import failures_of
from support.tokenizers import words

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)
MOMENT = datetime(2025, 11, 24, 16, tzinfo=UTC)
SPLITTER = Splitter(Chunks(tokens=32), words())
EMBEDDER = HashEmbedder()
LONG = "\n\n".join(
    f"Paragraph {n} has a few words of its own, so many that two are no chunk, {n * n}." for n in range(24)
)
EDITED = LONG.replace("Paragraph 3 has", "Paragraph 3, which was edited, has")
OFFSETS = itertools.count()


@pytest.fixture
def settings(database):
    store.prepare(database, SPACE, splitting=SPLITTER.identity)
    return database


@pytest.fixture
def table(settings):
    table = store.DocumentStore(settings, SPACE)
    yield table
    table.close()


def query(settings, sql, *parameters):
    with store.connect(settings) as connection:
        return connection.execute(sql, parameters).fetchall()


def version(offset=None):
    return Version(MOMENT, "t", 0, next(OFFSETS) if offset is None else offset)


def document(id, text, prefix="", metadata="{}", offset=None):
    return Message(
        id, version(offset), text, content_hash(text, prefix), MOMENT, "web", metadata, prefix=prefix
    )  # fmt: skip


def change(table, item, splitter=SPLITTER):
    held = table.look_up_chunks([item.id])[item.id]
    chunks = splitter.split(item.text, item.prefix)
    embedded = {chunk.key: embed(item.prefix, chunk.text) for chunk in chunks if chunk.key not in held.keys}
    return Change(item, Chunked(chunks, embedded, held))


def embed(prefix, text):
    return EMBEDDER._one(embedded_text(prefix, text))


def put(table, *items):
    """The number of chunks that were embedded."""
    changes = [change(table, item) for item in items]
    assert table.write(changes).won == {item.id for item in items}
    return sum(len(each.embedded.embedded) for each in changes)


def stands(settings, id):
    """What the table holds of a document."""
    return query(
        settings,
        'SELECT seq, start, "end", text, embedding, chunk_key FROM text_message_embeddings WHERE id = %s ORDER BY seq',
        id,
    )


def check(settings, id, text, prefix=""):
    expected = SPLITTER.split(text, prefix)
    rows = stands(settings, id)
    assert [row[:4] for row in rows] == [(c.seq, c.start, c.end, c.text) for c in expected]
    for row in rows:
        assert np.array_equal(np.array(row[4], np.float32), embed(prefix, row[3]).vector)
    [(whole, count)] = query(settings, "SELECT text, chunks FROM text_message_embeddings_documents WHERE id = %s", id)
    assert (whole, count) == (text, len(expected))


def test_each_version_of_a_document_leaves_its_own_chunks_and_a_delete_none(table, settings):
    assert put(table, document("other", LONG)) == len(stands(settings, "other")) > 20
    put(table, document("d", LONG))
    before = stands(settings, "d")
    check(settings, "d", LONG)
    assert put(table, document("d", EDITED)) <= 2
    check(settings, "d", EDITED)
    kept = {row[5] for row in before} & {row[5] for row in stands(settings, "d")}
    assert len(kept) >= len(before) - 2
    assert put(table, document("d", "Short.")) == 1
    check(settings, "d", "Short.")
    assert table.write([Change(Delete("d", version()))]).won == {"d"}
    assert stands(settings, "d") == []
    assert query(settings, "SELECT id FROM text_message_embeddings_documents") == [("other",)]
    check(settings, "other", LONG)
    put(table, document("d", LONG))
    check(settings, "d", LONG)


def test_what_only_moves_costs_no_entry_of_an_index(table, settings):
    put(table, *(document(str(n), LONG) for n in range(20)))
    execute(settings, "VACUUM text_message_embeddings")
    for n in range(20):
        assert put(table, document(str(n), f"A new beginning.\n\n{LONG}")) <= 2
    table.close()

    def updates():
        return query(
            settings,
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'text_message_embeddings'",
        )[0]

    wait(
        lambda: updates()[0] >= 20 * (len(SPLITTER.split(LONG)) - 1),
        10,
        "the statistics of the connection that has ended",
    )
    updated, without_index = updates()
    assert without_index == updated


def test_an_older_version_changes_nothing(table, settings):
    put(table, document("d", EDITED, offset=10**6))
    for text in (LONG, EDITED):
        assert table.write([change(table, document("d", text))]).won == set()
    assert table.write([Change(Delete("d", version()))]).won == set()
    check(settings, "d", EDITED)


def test_what_is_known_of_a_document(table, settings):
    item = document("d", LONG)
    assert table.look_up_chunks(["d"])["d"] == (None, frozenset())
    put(table, item)
    assert table.look_up(["d", "e"]) == {"d": (item.version, item.content_hash)}
    keys = {chunk.key for chunk in SPLITTER.split(LONG)}
    assert table.look_up_chunks(["d", "e"]) == {"d": (item.content_hash, keys), "e": (None, frozenset())}
    assert table.read_text("d", item.content_hash) == LONG
    assert table.read_text("d", b"other") is None
    execute(settings, "DELETE FROM text_message_embeddings WHERE seq = 3")
    assert table.look_up(["d"])["d"].content_hash is None
    assert put(table, document("d", LONG)) == 1
    check(settings, "d", LONG)


def execute(settings, sql):
    with store.connect(settings) as connection:
        connection.execute(sql)


def test_metadata_moves_on_alone(table, settings):
    put(table, document("d", LONG))
    before = query(settings, "SELECT xmin, ctid FROM text_message_embeddings")
    assert table.write([Change(document("d", LONG, metadata='{"n": 2}'))]).won == {"d"}
    assert query(settings, "SELECT xmin, ctid FROM text_message_embeddings") == before
    assert query(settings, "SELECT DISTINCT metadata FROM text_message_vectors") == [({"n": 2},)]
    assert table.write([Change(document("d", EDITED))]).won == set()


def test_another_prefix_is_another_embedding(table, settings):
    put(table, document("d", LONG, "A title"))
    check(settings, "d", LONG, "A title")
    assert put(table, document("d", LONG, "Another title")) == len(stands(settings, "d"))
    check(settings, "d", LONG, "Another title")
    [(equal,)] = query(
        settings,
        "SELECT bool_and(substring(chunk_key FOR 32) = sha256(convert_to(prefix || E'\\n\\n' || text, 'UTF8')))"
        " FROM text_message_vectors",
    )
    assert equal


def test_equal_chunks_of_one_document_stand_side_by_side(table, settings):
    put(table, document("d", "\n\n".join([LONG] * 2)))
    check(settings, "d", "\n\n".join([LONG] * 2))
    put(table, document("d", LONG))
    check(settings, "d", LONG)


def test_many_documents_at_once_and_the_progress_with_them(table, settings):
    items = [document(str(n), LONG.replace("few", f"few {n}")) for n in range(30)]
    table.resume({("t", 0): 0})
    changes = [*(change(table, item) for item in items), Change(Delete("gone", version()))]
    written = table.write(changes, {("t", 0): Step(77)})
    assert written.advanced
    assert len(written.won) == 31
    for item in items:
        check(settings, item.id, item.text)
    assert query(settings, "SELECT next, ids FROM text_message_embeddings_progress") == [(77, 31)]


def test_a_failure_in_the_middle_leaves_the_old_chunks(table, settings):
    put(table, document("d", LONG), document("e", LONG))
    for statement in ("INSERT", "DELETE", "UPDATE"):
        execute(
            settings,
            f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
            CREATE TRIGGER refuse AFTER {statement} ON text_message_embeddings FOR EACH ROW WHEN
            ({"OLD" if statement == "DELETE" else "NEW"}.id = 'd') EXECUTE FUNCTION refuse()""",
        )
        items = [document("d", f"New at the top. {EDITED}"), document("e", EDITED)]
        written = table.write([change(table, item) for item in items])
        assert {id: error.code for id, error in written.rejected.items()} == {"d": "sqlstate_P0001"}
        check(settings, "d", LONG)
        check(settings, "e", EDITED)
        execute(settings, "DROP FUNCTION refuse CASCADE")
        put(table, document("e", LONG))


def test_a_trigger_that_keeps_what_is_to_go_is_a_reason_to_reject(table, settings):
    put(table, document("d", LONG))
    execute(
        settings,
        """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE DELETE ON text_message_embeddings FOR EACH ROW EXECUTE FUNCTION keep()""",
    )
    for each in (change(table, document("d", "Short.")), Change(Delete("d", version()))):
        assert table.write([each]).rejected["d"].code == "row_skipped"
    check(settings, "d", LONG)


def test_chunks_that_another_writer_changed_meanwhile_are_not_built_upon(table, settings):
    put(table, document("d", LONG))
    late = change(table, document("d", EDITED, offset=10**6))
    put(table, document("d", "Something else."))
    assert table.write([late, Change(Delete("e", version()))]).won == {"e"}
    check(settings, "d", "Something else.")
    assert table.write([change(table, late.item)]).won == {"d"}
    check(settings, "d", EDITED)


def test_chunks_that_somebody_removed_meanwhile_are_noticed(table, settings):
    put(table, document("d", LONG), document("e", LONG))
    changes = [change(table, document(id, EDITED)) for id in "de"]
    execute(settings, "DELETE FROM text_message_embeddings WHERE id = 'd' AND seq = 9")
    assert table.write(changes).won == {"e"}
    put(table, document("d", EDITED))
    check(settings, "d", EDITED)
    check(settings, "e", EDITED)


def test_a_document_that_stands_there_without_the_ledger_is_replaced(table, settings):
    put(table, document("d", LONG))
    execute(settings, "DELETE FROM text_message_embeddings_ledger")
    stale = change(table, document("d", EDITED))
    new = Change(
        stale.item, stale.embedded._replace(embedded={c.key: embed("", c.text) for c in stale.embedded.chunks})
    )
    assert table.write([new]).won == {"d"}
    check(settings, "d", EDITED)


def test_writers_of_the_same_documents_end_in_the_newest_versions(settings):
    ids = [f"id-{n}" for n in range(8)]
    texts = [LONG.replace("Paragraph 5", f"Paragraph {turn}, edited") for turn in range(12)]
    versions = [(turn, id) for turn in range(12) for id in ids]

    def work(seed):
        table = store.DocumentStore(settings, SPACE)
        order = np.random.default_rng(seed).permutation(len(versions))
        try:
            for start in range(0, len(order), 6):
                waiting = newest(versions[position] for position in order[start : start + 6])
                while waiting:
                    settle(table, waiting, texts)
        finally:
            table.close()

    assert failures_of(work, 3) == []
    for id in ids:
        check(settings, id, texts[11] if ids.index(id) % 3 else texts[11] + id)


def newest(versions):
    found = {}
    for turn, id in versions:
        found[id] = max(turn, found.get(id, 0))
    return found


def settle(table, waiting, texts):
    """As `Ingest` does it, until every document is written or has a newer version."""
    known = table.look_up(list(waiting))
    for id, turn in list(waiting.items()):
        if id in known and known[id].version >= version(10**6 + turn):
            del waiting[id]
    changes = []
    for id, turn in waiting.items():
        text = texts[turn] if int(id[3:]) % 3 else texts[turn] + id
        item = Delete(id, version(10**6 + turn)) if turn % 4 == 2 else document(id, text, offset=10**6 + turn)
        changes.append(Change(item) if isinstance(item, Delete) else change(table, item))
    for id in table.write(changes).won if changes else ():
        del waiting[id]


def test_preparing_pins_the_splitting(settings):
    store.prepare(settings, SPACE, splitting=SPLITTER.identity)
    with store.connect(settings) as connection:
        assert store.read_splitting(connection, settings) == SPLITTER.identity
    with pytest.raises(ConfigError, match=r"chunks of texts \(semantic.*but the pipeline has whole texts"):
        store.prepare(settings, SPACE)
    other = Splitter(Chunks(tokens=64), words()).identity
    with pytest.raises(ConfigError, match="set the pipeline's chunks as they were"):
        store.prepare(settings, SPACE, splitting=other)


def test_a_table_of_whole_texts_takes_no_chunks(database):
    store.prepare(database, SPACE)
    with pytest.raises(ConfigError, match="holds whole texts, but the pipeline has chunks"):
        store.prepare(database, SPACE, splitting=SPLITTER.identity)
    with store.connect(database) as connection:
        assert store.read_splitting(connection, database) is None


def test_the_search_of_today_finds_chunks(table, settings):
    put(table, document("d", LONG, metadata='{"lang": "en"}'), document("e", EDITED))
    wanted = SPLITTER.split(LONG)[5]
    vector = embed("", wanted.text).vector
    with store.connect(settings) as connection:
        hits = nearest(connection, settings, vector, 2)
        filtered = nearest(connection, settings, vector, where=where("lang=en"))
    assert sorted((hit.id, hit.text) for hit in hits) == [("d", wanted.text), ("e", wanted.text)]
    assert {hit.id for hit in filtered} == {"d"}
    assert filtered[0].metadata == {"lang": "en"}
