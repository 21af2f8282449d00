"""A table of chunks goes to another model and back: its texts are cut anew, whatever is written meanwhile."""

import math
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from embedstream import embedding, store
from embedstream.audit import beside
from embedstream.decode.message import Message, Version, content_hash
from embedstream.decode.spec import Chunks, Decoding
from embedstream.documents import Chunked
from embedstream.errors import ConfigError, SpaceMoved
from embedstream.forget import erase
from embedstream.index.build import build
from embedstream.ingest import Change
from embedstream.migrate import filling
from embedstream.migrate.begin import begin
from embedstream.migrate.relations import ready
from embedstream.migrate.standing import as_line
from embedstream.migrate.swap import finish, switch
from embedstream.retry import Patience
from embedstream.search.request import Request
from embedstream.search.searcher import Searcher
from embedstream.splitting import splitter_of
from support.migration import (
    DocumentWorker,
    assert_holds,
    assert_looks_up_each,
    execute,
    fill,
    query,
    standing,
    started,
    two_services,
)
from support.service import running_service
from support.stack import wait

# A request that is under way when its client is closed leaves its socket to the garbage collector.
pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
TABLE = "text_message_embeddings"
DOCUMENTS = f"{TABLE}_documents"
PARTS = [f"Part {n} of a document has some words, and a chunk has no room for many of its kind." for n in range(12)]
LONG = "\n\n".join(PARTS)
EDITED = LONG.replace("Part 3 of", "Part three of")


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """The table's own, and that of a model that reads less."""
    directory = tmp_path_factory.mktemp("services")
    with two_services(directory) as urls:
        yield urls


@pytest.fixture
def worker(database, services):
    worker = DocumentWorker(database.model_copy(update={"embedding_service_url": services[0]}))
    yield worker
    worker.close()


@pytest.fixture
def settings(worker):
    worker.traffic(150, 60)
    return worker.settings


def at(settings, url):
    return settings.model_copy(update={"embedding_service_url": url})


def space_of(settings, url):
    return embedding.read_space(at(settings, url))


def cut_by(settings, **chunks):
    return settings.model_copy(update={"decoding": Decoding(chunks=Chunks(**chunks))})


def leftovers(settings):
    """What a migration made, and is not to leave behind."""
    found = query(
        settings,
        "SELECT relname FROM pg_class WHERE relname ~ '(_next|_previous|_migration|_pending)' UNION ALL"
        " SELECT proname FROM pg_proc WHERE proname LIKE '%mirror%' UNION ALL"
        " SELECT tgname FROM pg_trigger WHERE tgname LIKE 'embedstream%' UNION ALL"
        " SELECT conname FROM pg_constraint WHERE conname LIKE '%_embedded'",
    )
    return [name for (name,) in found]


def shape(settings, dimension):
    """Columns, storage, names of indexes and checks, but for the one that keeps vectors of another model out."""
    relations = f"('{TABLE}'::regclass, '{DOCUMENTS}'::regclass, 'text_message_vectors'::regclass)"
    columns = query(
        settings,
        "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attstorage, attnotnull"
        f" FROM pg_attribute WHERE attrelid IN {relations} AND attnum > 0 ORDER BY 1, attnum",
    )
    names = query(
        settings,
        f"SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid WHERE indrelid IN {relations} UNION ALL"
        f" SELECT conname FROM pg_constraint WHERE conrelid IN {relations} AND contype <> 'n'"
        " AND conname NOT LIKE '%_by_model' UNION ALL"
        f" SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid IN {relations} ORDER BY 1",
    )
    return [(*row[:2], row[2].replace(f"({dimension})", "(N)"), *row[3:]) for row in columns], names


def test_there_and_back_and_there(worker, settings, services):
    before = shape(settings, 16)
    begin(settings, services[1], 1.0)
    worker.traffic(80, 90)
    assert fill(settings) == "complete"
    worker.traffic(80, 90)
    assert_holds(settings, TABLE, worker.live, services[0])
    assert switch(settings, "cut-over").space == space_of(settings, services[1])
    assert_holds(settings, TABLE, worker.live, services[1])
    worker.traffic(80, 90)
    assert_holds(settings, TABLE, worker.live, services[1])
    switch(settings, "roll-back")
    assert_holds(settings, TABLE, worker.live, services[0])
    worker.traffic(80, 90)
    switch(settings, "cut-over")
    worker.traffic(80, 90)
    assert finish(settings, "finish") == "previous"
    worker.traffic(80, 90)
    assert_holds(settings, TABLE, worker.live, services[1])
    assert standing(settings) is None
    assert leftovers(settings) == []
    assert shape(settings, 12) == before
    moved = at(settings, services[1])
    splitter = splitter_of(moved, space_of(settings, services[1]))
    store.prepare(moved, space_of(settings, services[1]), splitting=splitter.identity)


def test_every_kind_of_change_during_the_backfill(worker, settings, services):
    worker.write(*((id, LONG, 10) for id in "abcdef"))
    begin(settings, services[1], 1.0)
    kinds = worker.write(("a", EDITED, 20), ("b", None, 20), ("c", "late", 5), ("d", LONG, 20), ("g", LONG, 20))
    assert kinds == ["stored", "deleted", "late", kinds[3], "stored"]
    # By whoever may.
    execute(settings, f"UPDATE {DOCUMENTS} SET source = 'by hand' WHERE id = 'e'")
    fill(settings)
    worker.write(("c", None, 30), ("d", EDITED, 30), ("h", LONG, 30), ("f", "short", 30))
    switch(settings, "cut-over")
    assert_holds(settings, TABLE, worker.live, services[1])
    assert query(settings, f"SELECT source FROM {DOCUMENTS} WHERE id = 'e'") == [("by hand",)]
    worker.write(("a", None, 40), ("d", "short", 40))
    assert_complete(settings, f"{TABLE}_previous")
    execute(settings, f"TRUNCATE {DOCUMENTS}")
    assert query(settings, f"SELECT count(*) FROM {TABLE}_previous_documents") == [(0,)]
    assert query(settings, f"SELECT count(*) FROM {TABLE}_previous") == [(0,)]


def assert_complete(settings, table):
    """Each document that is not to be cut again has its chunks, and each chunk a document."""
    assert query(
        settings,
        f"SELECT d.id FROM {table}_documents AS d"
        f" FULL JOIN (SELECT id, count(*) FROM {table} GROUP BY id) AS c USING (id)"
        " WHERE d.id IS NULL OR d.chunks <> coalesce(c.count, 0)",
    ) == []  # fmt: skip


def test_an_id_that_somebody_changes(worker, settings, services):
    worker.write(("x", LONG))
    started(settings, services[1])
    execute(settings, f"UPDATE {DOCUMENTS} SET id = 'y' WHERE id = 'x'")
    assert query(settings, f"SELECT count(*) FROM {TABLE}_next WHERE id = 'x'") == [(0,)]
    assert query(settings, f"SELECT chunks FROM {TABLE}_next_documents WHERE id = 'y'") == [(None,)]
    fill(settings)
    assert_complete(settings, f"{TABLE}_next")


def test_the_job_writes_both_and_embeds_in_either_what_changed(worker, settings, services):
    worker.following([worker.record("x", LONG, title="T")])
    started(settings, services[1])
    worker.following._built.ingest._store._due = 0
    before, embedded = stamps(settings), worker.following.texts_embedded
    worker.following([worker.record("x", EDITED, title="T")])
    assert worker.following.texts_embedded - embedded <= 3
    wait(lambda: standing(settings).pending == 0, 20, "the worker to cut for the other table")
    assert_holds(settings, f"{TABLE}_next", worker.live, services[1])
    after = stamps(settings)
    assert 0 < len(after.items() - before.items()) <= 3 < len(after)


def stamps(settings):
    return dict(query(settings, f"SELECT chunk_key, embedding_timestamp FROM {TABLE}_next WHERE id = 'x'"))


def test_a_worker_that_slept_through_the_cut_over_writes_no_chunk_of_the_old_space(worker, settings, services):
    worker.following([worker.record("x", LONG, title="")])
    former = space_of(settings, services[0])
    asleep, splitter = store.DocumentStore(settings, former), splitter_of(settings, former)
    held = asleep.look_up_chunks(["x"])["x"]
    shorter = splitter.split("\n\n".join(PARTS[:6]))
    kept = [chunk for chunk in shorter if chunk.key in held.keys]
    assert kept
    started(settings, services[1])
    switch(settings, "cut-over")
    version = Version(datetime.now(UTC), "t", 0, 10**9)
    item = Message("x", version, PARTS[0], content_hash(PARTS[0]), version.event_time, None, "{}")
    with pytest.raises(SpaceMoved):  # though it brings no vector
        asleep.write([Change(item, Chunked(kept, {}, held))])
    asleep.close()
    assert_holds(settings, TABLE, worker.live, services[1])


def test_chunks_that_another_filler_wrote_and_removed_are_missed(worker, settings, services):
    """What was looked up before the embedding may have gone, and come, and gone since."""
    worker.following([worker.record("x", LONG, title="T")])
    started(settings, services[1])
    worker.following._built.ingest._store._due = math.inf
    worker.following([worker.record("x", EDITED, title="T")])
    with other_filler(settings) as slow, other_filler(settings) as quick:
        made = slow.embed([filling.Text("x", EDITED, "T")])
        quick.write(quick.embed(made.texts))
        execute(settings, f"UPDATE {DOCUMENTS} SET text = 'none of it' WHERE id = 'x'")
        assert slow.write(made) == 0
        quick.write(quick.embed([filling.Text("x", "none of it", "T")]))
        execute(settings, f"UPDATE {DOCUMENTS} SET text = '{EDITED}' WHERE id = 'x'")
        assert slow.write(made) == 0
        assert query(settings, f"SELECT chunks FROM {TABLE}_next_documents WHERE id = 'x'") == [(None,)]
        assert slow.write(slow.embed(made.texts)) == 1
    assert_holds(settings, f"{TABLE}_next", worker.live, services[1])


def test_no_text_that_was_cut_is_compared_with_every_document_that_is_due(worker, settings, services):
    """Statistics know nothing of those: mostly there are none."""
    started(settings, services[1])
    execute(settings, f"ANALYZE {TABLE}_next_documents")
    with store.connect(settings) as connection:
        filling.prepared(connection, store.statements(TABLE)["limits"])
        sql, found = ready(connection, settings, "next")
        texts = connection.execute(f"SELECT id, text, prefix FROM {DOCUMENTS}".encode()).fetchall()
        given = filling.Made([filling.Text(*each) for each in texts], []).as_given()
        facts = {**given, "splitting": found.splitting}
        assert_looks_up_each(connection, sql, facts, "copy", "hold")


@contextmanager
def other_filler(settings):
    with store.connect(settings) as connection:
        sql, found = ready(connection, settings, "next")
        with filling.filler(settings, connection, sql, found, Patience()) as filler:
            yield filler


def test_readers_see_one_space_or_the_other(worker, settings, services):
    build(settings)
    started(settings, services[1])
    stop, failures = threading.Event(), []
    models = {space_of(settings, url).model_name: n for url, n in zip(services, (16, 12), strict=True)}
    whole = (
        "SELECT (SELECT array_agg(DISTINCT (model_name, vector_dims(embedding))::text) FROM text_message_vectors),"
        f" (SELECT count(*) FROM {DOCUMENTS} AS d"
        f" WHERE chunks <> (SELECT count(*) FROM {TABLE} AS c WHERE c.id = d.id))"
    ).encode()
    allowed = [[f"({model},{size})"] for model, size in models.items()]

    def read():
        try:
            with store.connect(settings) as connection, Searcher(settings) as searcher:
                while not stop.is_set():
                    found, torn = connection.execute(whole).fetchone()
                    assert (found in allowed, torn) == (True, 0), found
                    assert len(searcher.search(Request(query="text 1", k=3)).hits) == 3
        except Exception as exc:  # noqa: BLE001 - raised below
            failures.append(exc)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for step in ("cut-over", "roll-back", "cut-over"):
        time.sleep(0.3)
        switch(settings, step)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    worker.traffic(20, 20)


def test_indexes_and_rights_come_along(settings, services):
    execute(settings, "CREATE ROLE reader_of_chunks")
    try:
        for relation in (TABLE, DOCUMENTS, "text_message_vectors"):
            execute(settings, f"GRANT SELECT ON {relation} TO reader_of_chunks")
        for kind in ("vector", "words", "metadata"):
            build(settings, kind=kind)
        execute(settings, f"CREATE INDEX by_source ON {DOCUMENTS} (source)")
        names = indexes(settings)
        started(settings, services[1])
        switch(settings, "cut-over")
        assert indexes(settings) == names | {f"{DOCUMENTS}_pending"}
        for relation in (TABLE, DOCUMENTS, "text_message_vectors"):
            allowed = query(settings, f"SELECT has_table_privilege('reader_of_chunks', '{relation}', 'SELECT')")
            assert allowed == [(True,)]
        switch(settings, "roll-back")
        finish(settings, "abort")
        assert indexes(settings) == names
    finally:
        execute(settings, "DROP OWNED BY reader_of_chunks; DROP ROLE reader_of_chunks")


def indexes(settings):
    found = query(settings, f"SELECT indexname FROM pg_indexes WHERE tablename IN ('{TABLE}', '{DOCUMENTS}')")
    return {name for (name,) in found}


def test_what_the_new_service_has_no_room_for_is_named(worker, settings, services):
    title = "a title of " + "many " * 26 + "words"
    worker.following([worker.record("long", LONG, title=title)])
    assert started(settings, services[1]) == "complete"
    found = standing(settings)
    assert (found.pending, list(found.refused)) == (1, ["long"])
    with pytest.raises(
        ConfigError, match=r"1 documents have no vectors yet, of which the service refuses some \(long: "
    ):
        switch(settings, "cut-over")
    worker.following([worker.record("long", LONG, title="short")])
    fill(settings)
    assert "documents, ready for embedstream migrate cut-over" in as_line(standing(settings))
    switch(settings, "cut-over")
    assert_holds(settings, TABLE, worker.live, services[1])


def test_a_second_service_that_is_away_holds_up_nothing_but_the_cut_over(worker, settings, services, tmp_path):
    with running_service(tmp_path, "fake:10", EMBEDDING_MAX_TOKENS="50") as other:
        started(settings, other.url)
    worker.write(("new", LONG))
    with pytest.raises(
        ConfigError, match=r"1 documents have no vectors yet, and .* does not answer: start it, and try"
    ):
        switch(settings, "cut-over")
    assert_holds(settings, TABLE, worker.live, services[0])
    finish(settings, "abort")
    assert leftovers(settings) == []


def test_more_than_writers_may_wait_for_is_left_to_the_work(worker, settings, services):
    started(settings, services[1])
    worker.following._built.ingest._store._due = math.inf
    worker.write(*((f"new-{n}", f"{LONG} {n}") for n in range(201)))
    with pytest.raises(ConfigError, match="201 documents have no vectors yet: embedstream migrate resume goes on"):
        switch(settings, "cut-over")
    fill(settings)
    switch(settings, "cut-over")
    assert_holds(settings, TABLE, worker.live, services[1])


def test_what_cannot_begin(settings, services):
    with pytest.raises(
        ConfigError, match=r"--service: chunks\.tokens is 50, but the model reads 38 tokens beside its own"
    ):
        begin(cut_by(settings, tokens=50), services[1], 1.0)
    with pytest.raises(ConfigError, match=r"holds chunks of texts \(.*\), but the pipeline has chunks of texts"):
        begin(cut_by(settings, tokens=32), services[1], 1.0)
    with pytest.raises(ConfigError, match=r"holds chunks of texts \(.*\), but the pipeline has whole texts"):
        begin(settings.model_copy(update={"decoding": None}), services[1], 1.0)
    with pytest.raises(ConfigError, match=f"the service of table {TABLE} as it is: no embedding service answers at"):
        begin(at(settings, "http://127.0.0.1:1"), services[1], 1.0)
    execute(settings, f"CREATE VIEW mine AS SELECT id FROM {DOCUMENTS}")
    with pytest.raises(ConfigError, match=f"table {DOCUMENTS} has view mine, which would stay with the old vectors"):
        begin(settings, services[1], 1.0)
    execute(settings, "DROP VIEW mine")
    assert leftovers(settings) == []
    begin(settings, services[1], 1.0)
    with pytest.raises(ConfigError, match=r"holds chunks of texts \(.*\), but the pipeline has chunks of texts"):
        begin(cut_by(settings, overlap=2), services[1], 1.0)
    with pytest.raises(ConfigError, match=r"holds chunks of texts \(.*\), but the pipeline has chunks of texts"):
        fill(cut_by(settings, overlap=2))


def test_a_table_of_another_schema(database, services):
    named = database.model_copy(update={"embedding_service_url": services[0], "pgvector_table": "apart.notes"})
    execute(database, "CREATE SCHEMA apart")
    worker = DocumentWorker(named)
    worker.traffic(60, 30)
    settings = worker.settings
    started(settings, services[1])
    worker.traffic(20, 30)
    switch(settings, "cut-over")
    worker.traffic(20, 30)
    assert_holds(settings, "apart.notes", worker.live, services[1])
    switch(settings, "roll-back")
    switch(settings, "cut-over")
    finish(settings, "finish")
    worker.traffic(20, 30)
    assert_holds(settings, "apart.notes", worker.live, services[1])
    worker.close()
    assert leftovers(settings) == []


def test_a_document_that_is_not_the_same_is_noticed(worker, settings, services):
    worker.write(("x", LONG), ("y", LONG), ("z", LONG))
    started(settings, services[1])
    execute(settings, f"UPDATE {TABLE}_next_documents SET text = 'another' WHERE id = 'x'")
    execute(settings, f"DELETE FROM {TABLE}_next WHERE id = 'y' AND seq = 1")
    execute(settings, f"DELETE FROM {TABLE}_next_documents WHERE id = 'z'")
    with pytest.raises(ConfigError, match="1 documents are missing, 0 are too many, 2 are others"):
        switch(settings, "cut-over")


def test_what_is_to_be_forgotten_is_looked_for_in_all_of_it(worker, settings, services):
    begin(settings, services[1], 1.0)
    with store.connect(settings) as connection:
        relations, _ = erase._Table(settings, connection, "id-1").relations(None)
    assert {f"{TABLE}_next", f"{TABLE}_next_documents", TABLE, DOCUMENTS} <= {each.name for each in relations}


def test_the_tokenizer_is_that_of_the_service_that_the_table_remembers(settings, services):
    started(settings, services[1])
    switch(settings, "cut-over")
    finish(settings, "finish")
    space = space_of(settings, services[1])
    with store.connect(settings) as connection:
        also = store.read_service(connection, settings).url
        kept = store.read_splitting(connection, settings)
    assert splitter_of(settings, space, also).identity == kept


def looked(settings, sample=0):
    """As the audit sees the other table."""
    with store.database(settings) as connection, connection.transaction():
        store.see_pgvector(connection)
        return beside.look(connection, settings, sample)


def test_the_audit_compares_the_other_table(worker, settings, services):
    begin(settings, services[1], 1.0)
    rows = len(worker.live)
    assert looked(settings) == (f"{TABLE}_next_documents", 0, 0, rows, 0, 0)
    worker.following._built.ingest._store._due = math.inf
    worker.write(("x", LONG))
    assert looked(settings) == (f"{TABLE}_next_documents", 1, 1, rows, 0, 0)
    fill(settings)
    assert looked(settings, 50) == (f"{TABLE}_next_documents", rows + 1, 0, 0, 0, 50)
    switch(settings, "cut-over")
    assert looked(settings, 50) == (f"{TABLE}_previous_documents", rows + 1, 0, 0, 0, 50)


@pytest.mark.parametrize(
    ("damage", "sample", "wrong"),
    [
        ("UPDATE {0}_documents SET text = 'other' WHERE id = 'x'", 0, 1),
        ("UPDATE {0}_documents SET metadata = '{{}}', source = 's' WHERE id IN ('x', 'y')", 0, 2),
        ("DELETE FROM {0}_documents WHERE id = 'x'", 0, 1),
        ("DELETE FROM {0} WHERE id = 'x' AND seq = 1", 0, 1),
        ("UPDATE {0} SET id = 'ghost' WHERE id = 'x' AND seq = 1", 0, 2),
        ("UPDATE {0} SET embedding[1] = 'NaN' WHERE id = 'x' AND seq = 1", 0, 1),
        ("UPDATE {0} SET start = start + 1 WHERE id = 'x' AND seq = 1", 1000, 1),
        ("UPDATE {0} SET embedding = (SELECT max(embedding) FROM {0}) WHERE seq = 1 AND id = 'x'", 1000, 1),
    ],
)  # fmt: skip
def test_a_document_of_it_that_is_wrong_is_a_finding(worker, settings, services, damage, sample, wrong):
    worker.write(("x", LONG), ("y", LONG))
    started(settings, services[1])
    execute(settings, damage.format(f"{TABLE}_next"))
    assert looked(settings, sample).wrong == wrong
