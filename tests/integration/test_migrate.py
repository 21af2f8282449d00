"""A table goes to another model and back, whatever is written meanwhile."""

import threading
import time

import numpy as np
import pytest

from embedstream import embedding, store
from embedstream import services as offered
from embedstream.errors import ConfigError, SpaceMoved
from embedstream.index.build import build
from embedstream.ingest import Embedded
from embedstream.migrate import filling
from embedstream.migrate.begin import begin, pause, unpause
from embedstream.migrate.following import Following
from embedstream.migrate.relations import ready
from embedstream.migrate.standing import as_line
from embedstream.migrate.swap import finish, switch
from embedstream.retry import Patience
from embedstream.search.request import Request
from embedstream.search.searcher import Searcher
from support.index import change
from support.migration import Worker, assert_holds, assert_looks_up_each, execute, fill, query, standing, started
from support.service import running_service
from support.stack import wait

# A request that is under way when its client is closed leaves its socket to the garbage collector.
pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
TABLE = "text_message_embeddings"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """The addresses of two services: the table's own, and that of the other model."""
    directory = tmp_path_factory.mktemp("services")
    with running_service(directory, "fake:16") as one, running_service(directory, "fake:12") as other:
        yield one.url, other.url


@pytest.fixture
def worker(database, services):
    worker = Worker(database.model_copy(update={"embedding_service_url": services[0]}))
    yield worker
    worker.close()


@pytest.fixture
def settings(worker):
    worker.traffic(400, 200)
    return worker.settings


def space_of(settings, url):
    return embedding.read_space(settings.model_copy(update={"embedding_service_url": url}))


def test_there_and_back_and_there(worker, settings, services):
    begin(settings, services[1], 1.0)
    worker.traffic(200, 300)
    assert fill(settings) == "complete"
    worker.traffic(200, 300)
    assert standing(settings).state == "copying"
    assert switch(settings, "cut-over").space == space_of(settings, services[1])
    assert_holds(settings, TABLE, worker.live, services[1])
    worker.traffic(300, 300)
    assert_holds(settings, TABLE, worker.live, services[1])
    switch(settings, "roll-back")
    worker.traffic(300, 300)
    assert_holds(settings, TABLE, worker.live, services[0])
    switch(settings, "cut-over")
    worker.traffic(300, 300)
    assert finish(settings, "finish") == "previous"
    worker.traffic(300, 300)
    assert_holds(settings, TABLE, worker.live, services[1])
    assert standing(settings) is None
    assert leftovers(settings) == []


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


def test_a_table_that_went_to_another_model_is_as_one_that_began_with_it(worker, settings, services):
    before = shape(settings, 16)
    started(settings, services[1])
    switch(settings, "cut-over")
    assert shape(settings, 12) == before
    finish(settings, "finish")
    assert shape(settings, 12) == before
    started(settings, services[0])
    switch(settings, "cut-over")
    finish(settings, "finish")
    assert shape(settings, 16) == before
    worker.traffic(200, 200)
    assert_holds(settings, TABLE, worker.live, services[0])


def shape(settings, dimension):
    """Columns, names of indexes and checks, but for the one that keeps vectors of another model out."""
    columns = query(
        settings,
        "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attstorage FROM pg_attribute"
        f" WHERE attrelid IN ('{TABLE}'::regclass, 'text_message_vectors'::regclass) AND attnum > 0 ORDER BY 1, attnum",
    )
    names = query(
        settings,
        "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid"
        f" WHERE indrelid = '{TABLE}'::regclass AND relname NOT LIKE '%_pending' UNION ALL"
        f" SELECT conname FROM pg_constraint WHERE conrelid = '{TABLE}'::regclass"
        " AND contype <> 'n' AND conname NOT LIKE '%_by_model' AND conname NOT LIKE '%_embedded' ORDER BY 1",
    )
    return [(*row[:2], row[2].replace(f"({dimension})", "(N)"), row[3]) for row in columns], names


def test_a_worker_that_slept_while_the_table_moved_needs_no_service_that_was_ended_since(worker, settings, tmp_path):
    """It has written nothing since, and would wait for that service before it writes."""
    with running_service(tmp_path, "fake:8") as third:
        started(settings, third.url)
        switch(settings, "cut-over")
        worker.traffic(20, 200)
        sleeping, worker.following = worker.following, Following(worker._build, Patience())
        switch(settings, "roll-back")
        worker.traffic(20, 200)
        finish(settings, "abort")
    worker.following._built.close()
    worker.following = sleeping
    assert worker.write(("new", "a text that nobody knows")) == ["stored"]
    assert_holds(settings, TABLE, worker.live, settings.embedding_service_url)


def test_no_vector_that_comes_is_compared_with_every_row_that_lacks_one(settings, services):
    """Statistics know nothing of those: mostly there are none."""
    started(settings, services[1])
    execute(settings, f"ANALYZE {TABLE}_next")
    with store.connect(settings) as connection:
        filling.prepared(connection, store.statements(TABLE)["limits"])
        sql, found = ready(connection, settings, "next")
        texts = connection.execute(f"SELECT id, text FROM {TABLE}".encode()).fetchall()
        results = [Embedded(np.ones(found.space.dimension, np.float32), 1, False)] * len(texts)
        made = filling.Made([filling.Text(*each) for each in texts], results)
        assert_looks_up_each(connection, sql, filling.as_arrays(made), "copy", "fill")


@pytest.fixture
def vacuums(database):
    """A server whose autovacuum looks every second."""
    for statement in ("SET autovacuum_naptime = 1", "RESET autovacuum_naptime"):
        execute(database, f"ALTER SYSTEM {statement}")
        execute(database, "SELECT pg_reload_conf()")
        if statement.startswith("SET"):
            yield


@pytest.mark.parametrize("step", ["cut-over", "finish"])
def test_an_autovacuum_that_takes_long_gives_way(settings, services, vacuums, step):
    started(settings, services[1])
    if step == "finish":
        switch(settings, "cut-over")
    other = f"{TABLE}_{'next' if step == 'cut-over' else 'previous'}"
    slow = "autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100"
    execute(settings, f"ALTER TABLE {other} SET ({slow}, autovacuum_vacuum_cost_limit = 1)")
    execute(settings, f"UPDATE {TABLE} SET source = 'x'")
    at_work = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE backend_type = 'autovacuum worker'"
        f" AND mode = 'ShareUpdateExclusiveLock' AND relation = '{other}'::regclass"
    )
    wait(lambda: query(settings, at_work) == [(1,)], 30, "an autovacuum")
    if step == "cut-over":
        switch(settings, "cut-over", 3)
    else:
        finish(settings, "finish", 3)


def test_a_second_migration_keeps_the_address_that_the_first_one_left(settings, services):
    """EMBEDDING_SERVICE_URL may still be that of the model before."""
    started(settings, services[1])
    switch(settings, "cut-over")
    finish(settings, "finish")
    begin(settings, services[0], 1.0)
    assert offered.find(settings)[1] == space_of(settings, services[1])
    finish(settings, "abort")
    moved = settings.model_copy(update={"embedding_service_url": services[1]})
    execute(settings, f"UPDATE {TABLE}_space SET service_url = 'http://127.0.0.1:1'")
    begin(moved, services[0], 1.0)
    assert query(settings, f"SELECT service_url FROM {TABLE}_space") == [(services[1],)]


def test_a_vector_is_always_there_again_once_the_migration_is_over(settings, services):
    for end in ("finish", "abort"):
        started(settings, services[1] if end == "finish" else services[0])
        if end == "finish":
            switch(settings, "cut-over")
        else:
            switch(settings, "cut-over")
            switch(settings, "roll-back")
        finish(settings, end)
        (required,) = query(
            settings,
            f"SELECT attnotnull FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass AND attname = 'embedding'",
        )
        assert required == (True,)


def test_every_kind_of_change_during_the_backfill(worker, settings, services):
    worker.write(("a", "one", 10), ("b", "one", 10), ("c", "one", 10), ("d", "one", 10))
    begin(settings, services[1], 1.0)
    kinds = worker.write(("a", "two", 20), ("b", None, 20), ("c", "late", 5), ("d", "one", 20), ("e", "new", 20))
    assert kinds == ["stored", "deleted", "late", "unchanged", "stored"]
    with store.connect(settings) as connection:  # by whoever may
        connection.execute("UPDATE text_message_embeddings SET source = 'by hand' WHERE id = 'a'")
        connection.execute("UPDATE text_message_embeddings SET id = 'f' WHERE id = 'e'")
        connection.execute("UPDATE text_message_embeddings SET id = 'e' WHERE id = 'f'")
    fill(settings)
    worker.write(("c", None, 30), ("d", "two", 30), ("g", "new", 30))
    switch(settings, "cut-over")
    assert_holds(settings, TABLE, worker.live, services[1])
    assert query(settings, f"SELECT source FROM {TABLE} WHERE id = 'a'") == [("by hand",)]
    execute(settings, f"TRUNCATE {TABLE}")
    assert query(settings, f"SELECT count(*) FROM {TABLE}_previous") == [(0,)]


def test_the_job_writes_both_spaces(worker, settings, services):
    started(settings, services[1])
    worker.following._built.ingest._store._due = 0
    worker.write(*((f"new-{n}", f"new text {n}") for n in range(300)))
    wait(lambda: standing(settings).pending == 0, 20, "the worker to embed for the other table")
    assert_holds(settings, f"{TABLE}_next", worker.live, services[1])


def test_a_second_service_that_is_away_holds_up_nothing_but_the_cut_over(worker, settings, services, tmp_path):
    with running_service(tmp_path, "fake:10") as other:
        started(settings, other.url)
    worker.following._built.ingest._store._due = 0
    began = time.monotonic()
    worker.write(*((f"new-{n}", f"new text {n}") for n in range(50)))
    assert time.monotonic() - began < 5
    assert standing(settings).pending == 50
    with pytest.raises(ConfigError, match=r"50 rows have no vector yet, and .* does not answer: start it, and try"):
        switch(settings, "cut-over")
    assert_holds(settings, TABLE, worker.live, services[0])
    finish(settings, "abort")
    worker.write(("x", "y"))
    assert leftovers(settings) == []


def test_a_worker_that_slept_through_the_cut_over_writes_no_vector_of_the_old_space(settings, services):
    asleep = store.TableStore(settings, space_of(settings, services[0]))
    new = change(1, np.ones(16, np.float32))
    started(settings, services[1])
    switch(settings, "cut-over")
    with pytest.raises(SpaceMoved):
        asleep.write([new])
    finish(settings, "finish")
    with pytest.raises(SpaceMoved):
        asleep.write([new])
    alike = store.TableStore(settings, space_of(settings, services[0])._replace(dimension=12))
    with pytest.raises(SpaceMoved):
        alike.write([new._replace(embedded=Embedded(np.ones(12, np.float32), 1, False))])
    asleep.close()
    alike.close()


@pytest.mark.parametrize("type_", ["vector", "halfvec", "bit"])
def test_indexes_and_rights_come_along(settings, services, type_):
    settings = settings.model_copy(update={"index_type": type_})
    execute(
        settings, "CREATE ROLE reader_of_migrations; GRANT SELECT ON text_message_embeddings TO reader_of_migrations"
    )
    try:
        execute(settings, "GRANT SELECT ON text_message_vectors TO reader_of_migrations")
        for kind in ("vector", "words", "metadata"):
            build(settings, kind=kind)
        execute(settings, f"CREATE INDEX by_source ON {TABLE} (source) WHERE source IS NOT NULL")
        begin(settings, services[1], 1.0)
        execute(settings, f"GRANT DELETE ON {TABLE} TO reader_of_migrations")
        with pytest.raises(ConfigError, match="rows are not copied yet: embedstream migrate resume goes on"):
            switch(settings, "cut-over")
        fill(settings)
        execute(settings, f"DROP INDEX {TABLE}_next_words")
        with pytest.raises(ConfigError, match=f"the word index that table {TABLE} has is missing; index {TABLE}_words"):
            switch(settings, "cut-over")
        fill(settings)
        names = indexes(settings)
        switch(settings, "cut-over")
        assert indexes(settings) == names | {f"{TABLE}_pending"}
        for relation in (TABLE, "text_message_vectors"):
            assert query(settings, f"SELECT has_table_privilege('reader_of_migrations', '{relation}', 'SELECT')") == [
                (True,)
            ]
        assert query(settings, f"SELECT has_table_privilege('reader_of_migrations', '{TABLE}', 'DELETE')") == [(True,)]
        switch(settings, "roll-back")
        assert indexes(settings) == names | {f"{TABLE}_pending"}
        finish(settings, "abort")
        assert indexes(settings) == names - {f"{TABLE}_pending"}
    finally:
        execute(settings, "DROP OWNED BY reader_of_migrations; DROP ROLE reader_of_migrations")


def indexes(settings):
    return {name for (name,) in query(settings, f"SELECT indexname FROM pg_indexes WHERE tablename = '{TABLE}'")}


def found(searcher):
    assert len(searcher.search(Request(query="text 1", k=3)).hits) == 3


def watch(name, read, longest, failures, stop):
    try:
        longest[name] = 0.0
        while not stop.is_set():
            began = time.monotonic()
            read()
            longest[name] = max(longest[name], time.monotonic() - began)
    except Exception as exc:  # noqa: BLE001 - raised by who waits
        failures.append(exc)


def test_readers_see_one_space_or_the_other(worker, settings, services):
    build(settings)
    started(settings, services[1])
    stop, failures, longest = threading.Event(), [], {}
    spaces = {space_of(settings, url).model_name: n for url, n in zip(services, (16, 12), strict=True)}

    def table(connection, relation, dimension):
        statement = f"SELECT DISTINCT model_name, {dimension} FROM {relation}".encode()

        def read():
            ((model, found),) = connection.execute(statement).fetchall()
            assert spaces[model] == found

        return read

    with store.connect(settings) as one, store.connect(settings) as two, Searcher(settings) as searcher:
        reads = {
            "table": table(one, TABLE, "cardinality(embedding)"),
            "view": table(two, "text_message_vectors", "vector_dims(embedding)"),
            "search": lambda: found(searcher),
        }
        threads = [threading.Thread(target=watch, args=(*each, longest, failures, stop)) for each in reads.items()]
        for thread in threads:
            thread.start()
        for step in ("cut-over", "roll-back", "cut-over", "roll-back", "cut-over"):
            time.sleep(0.3)
            switch(settings, step)
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert longest["table"] < 1.0
    worker.traffic(20, 20)


def test_a_reader_that_stays_is_named_and_holds_up_no_other(settings, services):
    started(settings, services[1])
    with store.connect(settings) as reader, reader.transaction():
        reader.execute(f"SELECT FROM {TABLE}".encode())
        with pytest.raises(
            ConfigError, match=r"migrate cut-over: others hold table .*: backend \d+ \(embedstream, since"
        ):
            switch(settings, "cut-over", patience=1)
        assert query(settings, f"SELECT count(*) > 0 FROM {TABLE}") == [(True,)]
    switch(settings, "cut-over")


def test_a_pause_ends_the_work_and_a_resume_goes_on(worker, settings, services):
    begin(settings, services[1], 1.0)
    pause(settings)
    assert fill(settings) == "paused"
    worker.following._built.ingest._store._due = 0
    worker.write(("x", "y"))
    assert standing(settings).paused
    assert "paused: embedstream migrate resume" in as_line(standing(settings))
    unpause(settings, 0.5)
    assert fill(settings) == "complete"
    assert standing(settings).is_ready
    assert "ready for embedstream migrate cut-over" in as_line(standing(settings))
    pause(settings)
    begin(settings, services[1], 1.0)
    assert not standing(settings).paused


def test_what_the_new_service_refuses_is_named(worker, settings, services, tmp_path):
    with running_service(tmp_path, "fake:10", MAX_TEXT_BYTES="1000") as small:
        worker.write(("long", "x" * 5000))
        assert started(settings, small.url) == "complete"
        found = standing(settings)
        assert (found.pending, list(found.refused)) == (1, ["long"])
        with pytest.raises(ConfigError, match=r"1 rows have no vector yet, of which the service refuses some \(long: "):
            switch(settings, "cut-over")
        worker.write(("long", "short"))
        fill(settings)
        switch(settings, "cut-over")
        assert_holds(settings, TABLE, worker.live, small.url)
        switch(settings, "roll-back")


@pytest.mark.parametrize(
    ("step", "act"),
    [
        ("resume", fill),
        ("pause", pause),
        *((step, lambda settings, step=step: switch(settings, step)) for step in ("cut-over", "roll-back")),
        *((step, lambda settings, step=step: finish(settings, step)) for step in ("finish", "abort")),
    ],
)
def test_without_a_migration_no_step_is_one(settings, step, act):
    with pytest.raises(ConfigError, match="is not being migrated: embedstream migrate start --service URL begins"):
        act(settings)


def test_steps_out_of_order(settings, services):
    begin(settings, services[1], 1.0)
    for step, act in (("finish", finish), ("roll-back", switch)):
        with pytest.raises(ConfigError, match=f"migrate {step}: table {TABLE} cannot: it has not been cut over"):
            act(settings, step)
    fill(settings)
    switch(settings, "cut-over")
    for step, act in (("abort", finish), ("cut-over", switch)):
        with pytest.raises(ConfigError, match=f"migrate {step}: table {TABLE} cannot: it has been cut over"):
            act(settings, step)


def test_what_cannot_begin(settings, services, tmp_path):
    with pytest.raises(ConfigError, match="as table text_message_embeddings does already: give that of another model"):
        begin(settings, services[0], 1.0)
    with pytest.raises(ConfigError, match=r"--service: no embedding service answers at http://127.0.0.1:1 "):
        begin(settings, "http://127.0.0.1:1", 1.0)
    with pytest.raises(ConfigError, match="PGVECTOR_DIMENSION=16, but the new service embeds with fake:12"):
        begin(settings.model_copy(update={"pgvector_dimension": 16}), services[1], 1.0)
    execute(settings, f"CREATE VIEW mine AS SELECT id FROM {TABLE}")
    with pytest.raises(ConfigError, match="has view mine, which would stay with the old vectors"):
        begin(settings, services[1], 1.0)
    execute(settings, "DROP VIEW mine")
    assert leftovers(settings) == []
    begin(settings, services[1], 1.0)
    with running_service(tmp_path, "fake:10") as third, pytest.raises(ConfigError, match="is being migrated already"):
        begin(settings, third.url, 1.0)


def test_two_do_not_work_on_it_at_once(settings, services):
    begin(settings, services[1], 1.0)
    with store.connect(settings) as other:
        named = f"'embedstream migrate ' || '{TABLE}_migration'::regclass::oid"
        other.execute(f"SELECT pg_advisory_lock(hashtextextended({named}, 0))".encode())
        with pytest.raises(ConfigError, match="another process works on the migration of table"):
            fill(settings)


def test_a_mirror_that_somebody_took_away_is_noticed(settings, services):
    started(settings, services[1])
    execute(settings, f"ALTER TABLE {TABLE} DISABLE TRIGGER embedstream_mirror_update")
    with pytest.raises(ConfigError, match="somebody removed the triggers of table"):
        switch(settings, "cut-over")


def test_a_row_that_is_not_the_same_is_noticed(settings, services):
    started(settings, services[1])
    execute(settings, f"UPDATE {TABLE}_next SET text = 'another' WHERE id = (SELECT min(id) FROM {TABLE})")
    execute(settings, f"DELETE FROM {TABLE}_next WHERE id = (SELECT max(id) FROM {TABLE})")
    with pytest.raises(ConfigError, match="1 rows are missing, 0 are too many, 1 are others"):
        switch(settings, "cut-over")


def test_the_service_that_goes_with_the_table_is_known_until_it_is_set(worker, settings, services):
    started(settings, services[1])
    assert offered.read_space(settings) == space_of(settings, services[0])
    switch(settings, "cut-over")
    finish(settings, "finish")
    assert offered.read_space(settings) == space_of(settings, services[1])
    with Searcher(settings) as searcher:
        assert len(searcher.search(Request(query="x", k=3)).hits) == 3
    elsewhere = settings.model_copy(update={"embedding_service_url": "http://127.0.0.1:1"})
    assert offered.read_space(elsewhere) == space_of(settings, services[1])
    moved = settings.model_copy(update={"embedding_service_url": services[1]})
    assert offered.read_space(moved) == space_of(settings, services[1])
    store.prepare(moved, offered.read_space(moved))
    assert_holds(moved, TABLE, worker.live, services[1])


def test_a_table_that_another_schema_would_hide(settings, services):
    execute(settings, "CREATE SCHEMA first")
    name = settings.pgvector_db
    execute(settings, f"ALTER DATABASE {name} SET search_path = first, public")
    with pytest.raises(ConfigError, match=r"set PGVECTOR_TABLE=public.text_message_embeddings for this command"):
        begin(settings, services[1], 1.0)
    named = settings.model_copy(update={"pgvector_table": f"public.{TABLE}"})
    started(named, services[1])
    execute(settings, f"SET search_path = first; DELETE FROM public.{TABLE}")
    switch(named, "cut-over")
    assert query(settings, f"SELECT count(*) FROM {TABLE}") == [(0,)]
    finish(named, "finish")
