"""The word index and the metadata index lead the life of the vector index."""

import json
import threading

import pytest
from psycopg.sql import SQL
from typer.testing import CliRunner

from embedstream import cli, store
from embedstream.decode.chunks import Splitter
from embedstream.decode.spec import Chunks
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.index import tend
from embedstream.index.build import Stopped, build, drop
from embedstream.kafka import Position
from embedstream.store.words import WORDS
from support.index import NAME, end_backend, fill, held_build, look, space
from support.search import answer
from support.stack import wait
from support.tokenizers import words as tokenizer

pytestmark = pytest.mark.timeout(240)

NAMES = {"words": "text_message_embeddings_words", "metadata": "text_message_embeddings_metadata"}
of_each_kind = pytest.mark.parametrize("kind", list(NAMES))


def environment(settings):
    return {name: value for name, value in settings.to_env().items() if name.startswith("PGVECTOR_")}


@of_each_kind
def test_it_is_built_once_and_dropped(filled, kind):
    assert look(filled, kind).state == "none"
    index = build(filled, kind=kind)
    assert (index.state, index.name) == ("valid", NAMES[kind])
    assert "USING gin" in index.definition
    assert build(filled, kind=kind) == index
    assert {other: look(filled, other).state for other in ("vector", *NAMES) if other != kind} == {
        other: "none" for other in ("vector", *NAMES) if other != kind
    }
    assert drop(filled, kind).name == NAMES[kind]
    assert look(filled, kind).state == "none"
    assert look(filled, kind).dropped_at
    assert look(filled).dropped_at is None


@of_each_kind
def test_searches_use_it(filled, kind):
    fill(filled, 8000, first=2000)
    build(filled, kind=kind)
    with store.connect(filled) as connection:
        connection.execute("ANALYZE")
        if kind == "words":
            found = answer(connection, filled, query="text 5", mode="keyword")
            assert ([hit.id for hit in found.hits], found.method) == (["5"], "index")
        else:
            rare = {"field": "metadata.rare", "value": True}
            found = answer(connection, filled, [1.0] * 8, k=50, where=rare)
            assert (len(found.hits), found.method, found.complete) == (20, "filter", True)


@of_each_kind
def test_a_build_whose_backend_is_ended_leaves_an_invalid_index_that_is_built_anew(filled, kind):
    with held_build(filled, kind=kind) as failures:
        assert look(filled, kind).state == "building"
        assert look(filled).state == "none"
        end_backend(filled, failures, kind)
    assert isinstance(failures[0], StoreUnavailable)
    assert look(filled, kind).state == "invalid"
    shown = CliRunner().invoke(cli.app, ["index", "status", f"--{kind}"], env=environment(filled))
    assert shown.exit_code == 1
    assert f"embedstream index build --{kind}" in shown.stdout
    assert build(filled, kind=kind).state == "valid"


@of_each_kind
def test_a_build_that_is_told_to_stop_leaves_nothing_that_counts(filled, kind):
    stopping = threading.Event()
    with held_build(filled, kind=kind, is_stopped=stopping.is_set) as failures:
        stopping.set()
        wait(lambda: failures, 30, "the build to stop")
        assert isinstance(failures[0], Stopped)
    assert look(filled, kind).state in ("none", "invalid")


def test_only_one_index_of_a_table_is_built_at_a_time(filled):
    with held_build(filled) as failures, pytest.raises(ConfigError, match=r"another index of table .* is being built"):
        build(filled, kind="words")
    assert failures == []
    assert build(filled, kind="words").state == "valid"
    assert look(filled).state == "valid"


@of_each_kind
def test_one_of_another_name_counts(filled, kind):
    column = SQL("({})").format(WORDS) if kind == "words" else SQL("metadata")
    with store.connect(filled) as connection:
        connection.execute(SQL('CREATE INDEX "My own" ON text_message_embeddings USING gin ({})').format(column))
    assert build(filled, kind=kind).name == '"My own"'
    other = "metadata" if kind == "words" else "words"
    assert look(filled, other).state == "none"
    assert look(filled).state == "none"


def test_the_commands(filled):
    def index(*arguments):
        done = CliRunner().invoke(cli.app, ["index", *arguments, "--json"], env=environment(filled))
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    for kind, name in NAMES.items():
        assert index("status", f"--{kind}")["state"] == "none"
        built = index("build", f"--{kind}")
        assert (built["state"], built["rows"], built["name"], built["kind"]) == ("valid", 2000, name, kind)
        assert index("drop", f"--{kind}") == {"dropped": name}
    text = CliRunner().invoke(cli.app, ["index", "status", "--words"], env=environment(filled)).stdout
    assert "word index none, dropped by hand at" in text
    assert "searches by words read every row" in text
    with pytest.raises(ConfigError, match="give one of them"):
        CliRunner().invoke(
            cli.app, ["index", "status", "--words", "--metadata"], env=environment(filled), catch_exceptions=False
        )


@pytest.fixture
def lag(monkeypatch):
    lags = [0]
    monkeypatch.setattr(tend.kafka, "positions", lambda settings: [Position(0, 0, lag, 0) for lag in lags])
    return lags


def test_all_are_built_by_themselves_and_one_that_was_dropped_stays_away(filled, lag):
    settings = filled.model_copy(update={"index_min_rows": 2000})
    lines = []
    build(filled, kind="words")
    drop(filled, "words")
    tend.tend(settings, lines.append)
    assert {kind: look(filled, kind).state for kind in ("vector", *NAMES)} == {
        "vector": "valid", "words": "none", "metadata": "valid"
    }  # fmt: skip
    assert lines == [
        "building the vector index of table text_message_embeddings",
        f"built the vector index {NAME}",
        "building the metadata index of table text_message_embeddings",
        f"built the metadata index {NAMES['metadata']}",
    ]
    lag[:] = [5000]
    tend.tend(settings)
    assert look(filled, "words").dropped_at is None
    lag[:] = [0]
    tend.tend(settings)
    assert look(filled, "words").state == "valid"


def test_tending_mends_an_invalid_one(filled, lag):
    with held_build(filled, kind="words") as failures:
        end_backend(filled, failures, "words")
    assert look(filled, "words").state == "invalid"
    tend.tend(filled.model_copy(update={"index_min_rows": 10_000}))
    assert look(filled, "words").state == "valid"


def test_of_a_table_of_chunks_the_metadata_are_those_of_the_documents(database):
    store.prepare(database, space(8), splitting=Splitter(Chunks(tokens=32), tokenizer()).identity)
    for kind, relation in {"words": "text_message_embeddings", "metadata": "text_message_embeddings_documents"}.items():
        assert f" ON public.{relation} USING gin" in build(database, kind=kind).definition
        assert look(database, kind).state == "valid"


def test_a_table_of_an_earlier_version_is_to_be_submitted_anew(filled):
    with store.connect(filled) as connection:
        connection.execute("ALTER TABLE text_message_embeddings_space DROP COLUMN words_dropped_at")
    with pytest.raises(ConfigError, match="is of an earlier version: embedstream submit --replace"):
        build(filled, kind="words")
    store.prepare(filled, space(8))
    assert build(filled, kind="words").state == "valid"


def test_a_schema_and_a_name_that_need_quotes(database):
    with store.connect(database) as connection:
        connection.execute('CREATE SCHEMA "A b"')
    settings = database.model_copy(update={"pgvector_table": "A b.Some table"})
    store.prepare(settings, space(8))
    fill(settings, 10)
    for kind in NAMES:
        assert build(settings, kind=kind).name == f'"A b"."Some table_{kind}"'
        assert drop(settings, kind).state == "valid"
