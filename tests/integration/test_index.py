import json
import os
import subprocess
import sys
import threading

import psycopg
import pytest
from typer.testing import CliRunner

from embedstream import cli, store
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.index import build as module
from embedstream.index.build import Stopped, build, drop
from support.index import BY_HAND, NAME, end_backend, fill, held_build, look, space
from support.stack import wait

pytestmark = pytest.mark.timeout(240)


def test_it_is_built_once_and_dropped(filled):
    assert look(filled).state == "none"
    index = build(filled)
    assert (index.state, index.name) == ("valid", NAME)
    assert "USING hnsw (((embedding)::vector(8)) vector_cosine_ops)" in index.definition
    assert index.bytes > 100_000
    assert build(filled) == index
    assert drop(filled).name == NAME
    assert look(filled).state == "none"
    assert drop(filled).name is None


def test_too_many_dimensions_are_refused(database):
    with pytest.raises(ConfigError, match="5000 are more than the 4000 dimensions that pgvector can index"):
        store.prepare(database, space(5000))


def test_writers_go_on_and_progress_is_seen(filled):
    seen = []
    with held_build(filled, watch=seen.append):
        fill(filled, 100, first=5000)
        building = look(filled)
        wait(lambda: building.phase in [index.phase for index in seen], 30, "the phase to be told")
    assert (building.state, building.name) == ("building", NAME)
    assert building.pid
    assert look(filled).state == "valid"
    fill(filled, 100, first=6000)
    with store.connect(filled) as connection:
        connection.execute("SET hnsw.iterative_scan = relaxed_order; SET enable_seqscan = off")
        nearest = "SELECT id FROM text_message_vectors ORDER BY embedding <=> '[1,1,1,1,1,1,1,1]' LIMIT 2200"
        assert len(connection.execute(nearest).fetchall()) == 2200


def test_two_builders_do_not_collide(filled):
    with held_build(filled) as failures, pytest.raises(ConfigError, match=r"is being built already \(backend "):
        build(filled)
    assert failures == []
    assert look(filled).state == "valid"


def test_a_build_whose_backend_is_ended_leaves_an_invalid_index_that_is_built_anew(filled):
    with held_build(filled) as failures:
        end_backend(filled, failures)
    assert isinstance(failures[0], StoreUnavailable)
    assert look(filled).state == "invalid"
    assert CliRunner().invoke(cli.app, ["index", "status"], env=environment(filled)).exit_code == 1
    assert build(filled).state == "valid"


def test_a_build_that_is_told_to_stop_leaves_nothing(filled):
    stopping = threading.Event()
    with held_build(filled, is_stopped=stopping.is_set) as failures:
        stopping.set()
        wait(lambda: failures, 30, "the build to stop")
        assert isinstance(failures[0], Stopped)
        wait(lambda: look(filled).pid is None, 30, "its backend to end")
    assert look(filled).state in ("none", "invalid")


def test_the_backend_ends_with_a_builder_that_is_killed(filled):
    with store.connect(filled) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        command = [sys.executable, "-m", "embedstream", "index", "build"]
        process = subprocess.Popen(command, env={**os.environ, **environment(filled)}, stdout=subprocess.DEVNULL)
        wait(lambda: look(filled).name, 60, "the build to begin")
        process.kill()
        process.wait()
        wait(lambda: look(filled).state == "invalid", 30, "its backend to notice")
    assert build(filled).state == "valid"


def test_dropping_ends_a_build(filled):
    with held_build(filled) as failures:
        assert drop(filled).state == "building"
    assert "canceling statement" in str(failures[0])
    assert look(filled).state == "none"


def test_without_shared_memory_one_process_builds_alone(filled, monkeypatch):
    tried = []
    run = module._run

    def lacking(connection, catalog, look):
        (workers,) = connection.execute("SHOW max_parallel_maintenance_workers").fetchone()
        tried.append(workers)
        if workers != "0":
            raise psycopg.errors.DiskFull
        run(connection, catalog, look)

    monkeypatch.setattr(module, "_run", lacking)
    assert build(filled).state == "valid"
    assert tried == ["2", "0"]


def environment(settings):
    return {name: value for name, value in settings.to_env().items() if name.startswith("PGVECTOR_")}


def test_the_commands(filled):
    def index(*arguments):
        done = CliRunner().invoke(cli.app, ["index", *arguments, "--json"], env=environment(filled))
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert index("status")["state"] == "none"
    built = index("build")
    assert (built["state"], built["rows"], built["name"]) == ("valid", 2000, NAME)
    assert built["seconds"] > 0
    assert "hnsw" in index("status")["definition"]
    assert index("drop") == {"dropped": NAME}
    assert index("drop") == {"dropped": None}
    text = CliRunner().invoke(cli.app, ["index", "status"], env=environment(filled)).stdout
    assert "2,000 rows" in text
    assert "none, dropped by hand at" in text


def test_before_there_is_a_table_the_commands_say_so(database):
    with pytest.raises(ConfigError, match="there is no table"):
        build(database)


def test_an_index_of_another_name_counts_and_those_of_other_kinds_do_not(filled):
    with store.connect(filled) as connection:
        connection.execute("CREATE INDEX ON text_message_embeddings USING gin (metadata)")
        connection.execute(BY_HAND.replace("cosine", "l2").format("nearly").encode())
        assert look(filled).state == "none"
        connection.execute(BY_HAND.format('"My own"').encode())
    assert build(filled).name == '"My own"'
    assert drop(filled).name == '"My own"'
    assert look(filled).state == "none"


def test_a_schema_and_a_name_that_need_quotes(database):
    with store.connect(database) as connection:
        connection.execute('CREATE SCHEMA "A b"')
    settings = database.model_copy(update={"pgvector_table": "A b.Some table"})
    store.prepare(settings, space(8))
    fill(settings, 10)
    assert build(settings).name == '"A b"."Some table_hnsw"'
    assert drop(settings).state == "valid"
