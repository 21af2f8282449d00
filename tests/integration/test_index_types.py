"""The vector index may hold vectors whole, in halves, or as signs: what is found stays what the vectors say."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from embedstream import cli, store
from embedstream.index.build import build, drop
from embedstream.settings import load_settings
from support.index import NAME, RANDOM, fill, held_build, look, space
from support.search import answer, nearest

pytestmark = pytest.mark.timeout(240)

DIMENSION = 64
ROWS = 6000
CLASSES = {"vector": "vector_cosine_ops", "halfvec": "halfvec_cosine_ops", "bit": "bit_hamming_ops"}
NAMES = {"vector": NAME, "halfvec": f"{NAME}_half", "bit": f"{NAME}_bit"}
of_each_type = pytest.mark.parametrize("type_", list(CLASSES))
RARE = {"field": "metadata", "op": "contains", "value": {"rare": True}}


def of_type(settings, type_, **facts):
    return settings.model_copy(update={"index_type": type_, **facts})


@contextmanager
def searching(settings):
    """A connection over which PostgreSQL takes the index even of a table that is read faster."""
    with store.connect(settings) as connection:
        connection.execute("SET enable_seqscan = off")
        yield connection


@pytest.fixture(scope="module")
def large(postgres):
    with postgres.fresh_database() as name:
        settings = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        store.prepare(settings, space(DIMENSION))
        fill(settings, ROWS, DIMENSION)
        yield settings


@pytest.fixture(params=list(CLASSES))
def typed(request, large):
    settings = of_type(large, request.param)
    build(settings)
    return settings


def test_each_holds_what_it_is_named_for_and_the_one_before_goes(typed):
    index = look(typed)
    assert (index.state, index.type, index.name) == ("valid", typed.index_type, NAMES[typed.index_type])
    assert CLASSES[typed.index_type] in index.definition
    with store.connect(typed) as connection:
        (count,) = connection.execute("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%hnsw%'").fetchone()
    assert count == 1
    assert build(typed) == index


def test_answers_have_the_similarity_of_the_whole_vectors(typed):
    hit_count, queries = 0, RANDOM.standard_normal((10, DIMENSION)).astype(np.float32)
    with searching(typed) as connection:
        for vector in queries:
            found = answer(connection, typed, vector, k=10, ef_search=1000)
            exact = {hit.id: hit.similarity for hit in nearest(connection, typed, vector, k=ROWS, exact=True)}
            assert found.method == "index"
            similarities = [exact[hit.id] for hit in found.hits]
            assert [hit.similarity for hit in found.hits] == sorted(similarities, reverse=True)
            hit_count += len({hit.id for hit in found.hits} & set(list(exact)[:10]))
    # Numbers drawn at random have no near neighbours, of which signs would tell.
    assert hit_count >= {"vector": 90, "halfvec": 90, "bit": 30}[typed.index_type]


def test_more_candidates_of_a_bit_index_find_more(large):
    build(of_type(large, "bit"))
    vectors = RANDOM.standard_normal((20, DIMENSION)).astype(np.float32)

    def found(rerank):
        settings = of_type(large, "bit", index_rerank=rerank)
        with searching(settings) as connection:
            hits = [nearest(connection, settings, vector, k=10, ef_search=1000) for vector in vectors]
            exact = [nearest(connection, settings, vector, k=10, exact=True) for vector in vectors]
        return sum(len({a.id for a in some} & {b.id for b in all_}) for some, all_ in zip(hits, exact, strict=True))

    assert found(25) < found(100) < found(400)


def test_pages_neither_repeat_nor_skip_and_a_filter_gives_all_rows(typed):
    vector = RANDOM.standard_normal(DIMENSION).astype(np.float32)
    with searching(typed) as connection:
        pages = [answer(connection, typed, vector, k=40, offset=offset) for offset in range(0, 160, 40)]
        assert {page.method for page in pages} == {"index"}
        assert len({hit.id for page in pages for hit in page.hits}) == 160
        assert len(nearest(connection, typed, vector, k=10, where=RARE)) == 10


def test_whatever_type_is_there_is_used(typed):
    vector = np.ones(DIMENSION, dtype=np.float32)
    for type_ in CLASSES:
        settings = of_type(typed, type_)
        with searching(settings) as connection:
            assert answer(connection, settings, vector, k=5).method == "index"
        index = look(settings)
        assert (index.state, index.type) == ("valid", typed.index_type)


@pytest.mark.parametrize(("dimension", "type_"), [(2001, "vector"), (2001, "halfvec"), (2001, "bit"), (8, "bit")])
def test_of_any_dimension(database, dimension, type_):
    settings = of_type(database, type_)
    store.prepare(settings, space(dimension))
    fill(settings, 300, dimension)
    index = build(settings)
    assert index.type == ("bit" if type_ == "bit" else "halfvec")
    with searching(settings) as connection:
        found = answer(connection, settings, RANDOM.standard_normal(dimension).astype(np.float32), k=5)
    assert (found.method, len(found.hits)) == ("index", 5)


@of_each_type
def test_where_pgvector_lives_in_another_schema(database, type_):
    with store.connect(database) as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("CREATE EXTENSION vector SCHEMA extensions")
    settings = of_type(database, type_)
    store.prepare(settings, space(8))
    fill(settings, 300)
    assert build(settings).type == type_
    with searching(settings) as connection:
        assert answer(connection, settings, np.ones(8, dtype=np.float32), k=5).method == "index"


def test_the_index_before_answers_until_the_other_is_built_and_one_made_by_hand_stays(filled):
    build(filled)
    with searching(filled) as connection:
        connection.execute(
            "CREATE INDEX mine ON text_message_embeddings USING hnsw ((embedding::vector(8)) vector_l2_ops)"
        )
        with held_build(of_type(filled, "bit")) as failures:
            assert look(filled).name == NAME
            assert answer(connection, of_type(filled, "bit"), np.ones(8), k=5).method == "index"
        assert not failures
        names = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%hnsw%' ORDER BY 1"
        ).fetchall()
    assert names == [("mine",), (f"{NAME}_bit",)]


def test_a_drop_ends_the_build_of_another_type_and_drops_both(filled):
    build(filled)
    settings = of_type(filled, "halfvec")
    with held_build(settings) as failures:
        assert drop(settings).name == NAME
    assert len(failures) == 1
    with store.connect(filled) as connection:
        assert connection.execute("SELECT FROM pg_indexes WHERE indexdef LIKE '%hnsw%'").fetchall() == []


def test_the_commands_tell_of_it(filled):
    build(filled)
    environment = {name: value for name, value in filled.to_env().items() if name.startswith("PGVECTOR_")}

    def index(*arguments):
        return CliRunner().invoke(cli.app, ["index", *arguments], env={**environment, "INDEX_TYPE": "bit"})

    assert json.loads(index("status", "--json").stdout)["type"] == "vector"
    assert json.loads(index("build", "--json").stdout)["type"] == "bit"
