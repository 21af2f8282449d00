"""Recall of the vector index, over tables that have one."""

import json

import pytest
from typer.testing import CliRunner

from embedstream import cli, store
from embedstream.errors import ConfigError
from embedstream.index.build import build
from embedstream.index.recall import measure, share
from embedstream.search.answer import Answer, Hit
from embedstream.search.problem import InvalidRequest
from embedstream.search.searcher import Searcher, search
from embedstream.settings import load_settings
from support.index import MOMENT, NAME, fill, space

DIMENSION = 64
ROWS = 8000


@pytest.fixture(scope="module")
def indexed(postgres):
    """A table that is large enough for PostgreSQL to take its index."""
    with postgres.fresh_database() as name:
        settings = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        store.prepare(settings, space(DIMENSION))
        fill(settings, ROWS, DIMENSION)
        build(settings)
        with store.connect(settings) as connection:
            connection.execute("ANALYZE text_message_embeddings")
        yield settings


def found(settings, **facts):
    with Searcher(settings, connections=1) as searcher:
        return measure(settings, searcher.search, **facts)


def test_more_candidates_find_more(indexed):
    few, many = found(indexed, queries=40), found(indexed, queries=40, ef_search=200)
    assert (few.table, few.rows, few.index, few.k, few.queries) == ("text_message_embeddings", ROWS, NAME, 10, 40)
    assert 0 < few.worst <= few.mean < many.mean <= 1
    assert many.mean > 0.8
    assert few.index_ms > 0
    assert few.exact_ms > 0


def test_what_is_missed_lowers_it(indexed):
    def blind(request):
        answer = search(indexed, request)
        hits = answer.hits if request.exact else answer.hits[5:]
        return Answer(hits, answer.method, answer.complete, answer.as_of, answer.took_ms)

    assert measure(indexed, blind, queries=3).mean <= 0.5


def test_rows_that_are_gone_meanwhile_are_left_out(indexed):
    asked = []

    def look(request):
        asked.append(request.id)
        if request.id == asked[0]:
            raise InvalidRequest("id: the table has no row of this id")
        return search(indexed, request)

    assert measure(indexed, look, queries=3).queries == 2


def test_the_command(indexed):
    environment = {name: value for name, value in indexed.to_env().items() if name.startswith("PGVECTOR_")}

    def recall(*arguments):
        return CliRunner().invoke(cli.app, ["index", "recall", "--rows", "3", *arguments], env=environment)

    facts = json.loads(recall("--json", "-k", "5", "--ef-search", "100").stdout)
    assert (facts["k"], facts["ef_search"], facts["queries"], facts["rows"]) == (5, 100, 3, ROWS)
    assert f"{NAME} finds " in recall().stdout
    assert " of the 10 nearest rows, at worst " in recall().stdout


def test_without_an_index_there_is_nothing_to_measure(filled):
    with pytest.raises(ConfigError, match="no valid vector index, so that searches are exact: embedstream index build"):
        found(filled)


def test_where_the_index_is_not_used_that_is_said(indexed):
    with pytest.raises(ConfigError, match="does not use the index of table text_message_embeddings"):
        found(indexed, ef_search=1000)


def test_too_few_rows_are_said_to_be(database):
    store.prepare(database, space(8))
    build(database)
    with pytest.raises(ConfigError, match="has no rows"):
        found(database)
    fill(database, 5)
    with pytest.raises(ConfigError, match="too few rows: a search for the 10 nearest finds 4"):
        found(database)


def test_of_rows_that_are_equally_far_any_will_do():
    def answer(*scores):
        hits = (Hit(str(n), score, score, "", None, MOMENT, {}) for n, score in enumerate(scores))
        return Answer(tuple(hits), "index", complete=True, as_of=None)

    assert share(answer(0.9, 0.5), answer(0.9, 0.5)) == 1
    assert share(answer(0.9, 0.4), answer(0.9, 0.5)) == 0.5
    assert share(answer(), answer(0.9, 0.5)) == 0
