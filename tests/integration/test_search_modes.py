"""Search by meaning, by words and by both, over whole texts and over chunks, beside models in numpy and Python."""

import itertools
import json
import random
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import psycopg
import pytest

from embedstream import embedding, store
from embedstream.decode.chunks import Splitter
from embedstream.decode.spec import Chunks
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.index.build import build
from embedstream.ingest import Embedded
from embedstream.search import searcher
from embedstream.search.answer import marked
from embedstream.search.problem import InvalidRequest
from embedstream.search.request import Request
from embedstream.search.searcher import Searcher, search
from embedstream.settings import load_settings
from embedstream.store.words import WORDS as WORDS_OF_A_TEXT
from support.index import MOMENT, space
from support.search import answer, nearest
from support.tokenizers import words as tokenizer

SQL_OF_WORDS = WORDS_OF_A_TEXT.as_string()

pytestmark = pytest.mark.timeout(240)

ROWS = 3000
RANDOM = np.random.default_rng(11)
VECTORS = RANDOM.standard_normal((ROWS, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1)[:, None]
QUERY = np.eye(8, dtype=np.float32)[0]
WORDS = ["apple", "pear", "plum", "quince", "medlar"]
RARE = {"field": "metadata.rare", "value": True}
INSERT = "INSERT INTO text_message_embeddings VALUES (%s, %s, %s, 'm', 'r', %s, %s, now(), %s::jsonb, %s, false)"


def text(number):
    """Every row has its number, a third a fruit, and one in 500 an identifier."""
    fruit = WORDS[number % 15 // 3] if number % 3 == 0 else "nothing"
    return f"Row {number} is about {fruit}" + (f" and loop.run_in_executor_{number}()" if number % 500 == 7 else "")


def row(number):
    metadata = json.dumps({"n": number, "rare": number % 600 == 5, "kind": "even" if number % 2 == 0 else "odd"})
    return (
        f"{number:04}", text(number), VECTORS[number].tolist(), f"s{number % 4}", MOMENT + timedelta(hours=number),
        metadata, number % 9 + 1,
    )  # fmt: skip


@contextmanager
def table(postgres):
    with postgres.fresh_database() as name:
        settings = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        store.prepare(settings, space(8))
        with store.connect(settings) as connection:
            connection.cursor().executemany(INSERT, [row(number) for number in range(ROWS)])
            connection.execute("ANALYZE")
            yield settings, connection


@pytest.fixture(scope="module")
def plain(postgres):
    with table(postgres) as (settings, connection):
        yield settings, connection


@pytest.fixture(scope="module")
def indexed(postgres):
    with table(postgres) as (settings, connection):
        build(settings)
        connection.execute("SET enable_seqscan = off")
        yield settings, connection


both = pytest.mark.parametrize("name", ["plain", "indexed"])


@pytest.fixture
def rows(request, name):
    return request.getfixturevalue(name)


def expected(keep=lambda number: True):
    order = np.argsort(-(VECTORS.astype(float) @ QUERY), kind="stable")
    return [f"{number:04}" for number in order if keep(number)]


def ids(found):
    return [hit.id for hit in found]


def test_an_answer_says_how_it_was_found(plain, indexed):
    settings, connection = plain
    found = answer(connection, settings, QUERY)
    assert (found.method, found.complete, found.as_of, found.next_offset) == ("exact", True, {}, 10)
    assert ids(found.hits) == expected()[:10]
    settings, connection = indexed
    assert answer(connection, settings, QUERY).method == "index"
    assert answer(connection, settings, QUERY, exact=True).method == "exact"
    assert ids(answer(connection, settings, QUERY, exact=True).hits) == expected()[:10]


@both
@pytest.mark.parametrize("k", [5, 10, 40, 200])
def test_few_rows_that_pass_a_filter_are_all_found(rows, name, k):
    settings, connection = rows
    found = answer(connection, settings, QUERY, k=k, where=RARE)
    assert ids(found.hits) == expected(lambda number: number % 600 == 5)[:k]
    assert len(found.hits) == 5
    assert found.complete


@both
@pytest.mark.parametrize("mode", ["semantic", "hybrid", "keyword"])
@pytest.mark.parametrize("size", [7, 30, 100])
def test_pages_neither_repeat_nor_skip(rows, name, mode, size):
    settings, connection = rows
    seen, offset = [], 0
    while offset is not None and offset < 600:
        found = answer(connection, settings, QUERY, query="apple pear", mode=mode, k=size, offset=offset)
        seen += ids(found.hits)
        assert found.next_offset in (offset + size, None)
        offset = found.next_offset
    whole = answer(connection, settings, QUERY, query="apple pear", mode=mode, k=len(seen))
    assert len(seen) == len(set(seen)) >= 400
    assert set(seen) == set(ids(whole.hits))
    if mode != "semantic":
        assert seen == ids(whole.hits)
    elif name == "plain":
        assert seen == expected()[: len(seen)]


def test_the_last_page_says_so(plain):
    settings, connection = plain
    found = answer(connection, settings, QUERY, k=3, offset=3, where=RARE)
    assert len(found.hits) == 2
    assert found.next_offset is None
    assert answer(connection, settings, QUERY, k=3, offset=50, where=RARE).hits == ()
    assert answer(connection, settings, QUERY, k=10, offset=990).next_offset is None


def test_many_rows_at_once_as_the_command_line_may(indexed):
    settings, connection = indexed
    assert ids(nearest(connection, settings, QUERY, 2500, exact=True)) == expected()[:2500]
    assert len(nearest(connection, settings, QUERY, 2500)) == 2500


def test_words_find_the_parts_of_identifiers(plain):
    settings, connection = plain
    found = answer(connection, settings, query="run_in_executor", mode="keyword")
    assert set(ids(found.hits)) == {f"{number:04}" for number in range(7, ROWS, 500)}
    assert ids(answer(connection, settings, query="loop.run_in_executor_507", mode="keyword").hits) == ["0507"]
    assert found.hits[0].similarity is None
    assert found.hits[0].places == (None, 1)


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("apple", lambda text: "apple" in text),
        ("medlar executor", lambda text: "medlar" in text and "executor" in text),
        ("is -nothing", lambda text: "nothing" not in text),
        ('"about apple"', lambda text: "about apple" in text),
        ('"apple about"', lambda text: False),
        ("quince or medlar", lambda text: "quince" in text or "medlar" in text),
        ("apple zebra", lambda text: "apple" in text),  # some of the words, where no row has all
        ("zebra", lambda text: False),
        ("...", lambda text: False),
    ],
)
def test_words_in_quotes_behind_a_minus_and_around_or(plain, query, holds):
    settings, connection = plain
    found = answer(connection, settings, query=query, mode="keyword", k=1000)
    wanted = [number for number in range(ROWS) if holds(text(number))]
    assert len(found.hits) == min(1000, len(wanted))
    assert set(ids(found.hits)) <= {f"{number:04}" for number in wanted}
    assert found.complete == (len(wanted) < 2000)


def test_so_many_matches_that_not_all_are_ranked_are_told(plain):
    settings, connection = plain
    for mode in ("keyword", "hybrid"):
        found = answer(connection, settings, QUERY, query="row", mode=mode)
        assert not found.complete
        assert len(found.hits) == 10
    assert answer(connection, settings, QUERY, query="row", mode="keyword", exact=True).complete


def test_both_ways_together(plain):
    settings, connection = plain
    found = answer(connection, settings, QUERY, query="executor", mode="hybrid", k=5)
    semantic = {id: place for place, id in enumerate(expected()[:100], 1)}
    keyword = ids(answer(connection, settings, query="executor", mode="keyword", k=100).hits)
    scores = {id: 1 / (60 + place) for id, place in semantic.items()}
    for place, id in enumerate(keyword, 1):
        scores[id] = scores.get(id, 0) + 2 / (60 + place)
    wanted = sorted(scores, key=lambda id: (-scores[id], id))[:5]
    assert ids(found.hits) == wanted
    assert [hit.score for hit in found.hits] == pytest.approx([scores[id] for id in wanted])
    assert answer(connection, settings, QUERY, query="zebra", mode="hybrid").hits[0].id == expected()[0]


def test_a_least_similarity_cuts_before_the_lists_are_fused(indexed):
    settings, connection = indexed
    least = float(np.sort(VECTORS @ QUERY)[-20])
    found = answer(connection, settings, QUERY, k=100, min_similarity=least - 1e-6)
    assert len(found.hits) in range(19, 21)
    assert all(hit.similarity >= least - 1e-5 for hit in found.hits)
    both = answer(connection, settings, QUERY, query="executor", mode="hybrid", k=100, min_similarity=0.999999)
    assert {hit.id for hit in both.hits if hit.places.semantic is None} >= {"0507"}
    assert len(both.hits) < 20


def test_times_words_and_filters_hold_in_every_mode(plain):
    settings, connection = plain
    facts = {
        "after": MOMENT + timedelta(hours=1000), "before": MOMENT + timedelta(hours=2000), "words": "apple -executor",
        "where": {"and": [{"field": "metadata.kind", "value": "odd"}, {"field": "source", "op": "ne", "value": "s1"}]},
    }  # fmt: skip
    wanted = {
        f"{number:04}" for number in range(1000, 2000)
        if "apple" in text(number) and "executor" not in text(number) and number % 2 and number % 4 != 1
    }  # fmt: skip
    for mode in ("semantic", "keyword", "hybrid"):
        found = answer(connection, settings, QUERY, query="apple", mode=mode, k=1000, **facts)
        assert set(ids(found.hits)) == wanted
    assert wanted


def test_more_like_this_leaves_the_row_itself_out(plain):
    settings, connection = plain
    similar = VECTORS.astype(float) @ VECTORS[42].astype(float)
    wanted = [f"{number:04}" for number in np.argsort(-similar) if number != 42][:10]
    assert ids(answer(connection, settings, id="0042").hits) == wanted
    with pytest.raises(InvalidRequest, match="no row of this id"):
        answer(connection, settings, id="none")


def test_highlights_are_where_the_words_stand(plain):
    settings, connection = plain
    (hit,) = answer(connection, settings, query="run_in_executor_507", mode="keyword", highlight=True).hits
    shown = [hit.text[start:end] for start, end in hit.highlights]
    assert shown == ["507", "run", "in", "executor", "507"]
    assert "<mark>executor</mark>_<mark>507</mark>()" in marked(hit.text, hit.highlights)
    assert answer(connection, settings, query="507", mode="keyword").hits[0].highlights == ()


def test_a_text_of_nothing_but_distinct_words_and_marks_is_a_row_that_is_found(plain):
    _, connection = plain
    hostile = "\x02<b>\x03 " + " ".join("".join(w) for w in itertools.product("abcdefghij", repeat=5))[:1_000_000]
    facts = list(row(0))
    facts[0], facts[1] = "large", hostile
    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute(INSERT, facts)
        connection.execute(f"CREATE INDEX ON text_message_embeddings USING gin (({SQL_OF_WORDS}))")
        found = connection.execute(f"SELECT id FROM text_message_vectors WHERE {SQL_OF_WORDS} @@ 'aaaab'").fetchall()
    assert ("large",) in found


class Counting:
    """Stands for the service, and counts how often its client is made."""

    made = 0

    def __init__(self, settings, space, patience, also=None, canary=None):
        Counting.made += 1

    def embed_query(self, words):
        return Embedded(VECTORS[int(words)] if words.isdigit() else QUERY, 1, False)

    def close(self):
        pass


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(embedding, "EmbeddingClient", Counting)
    Counting.made = 0


def test_an_exact_search_stays_exact_on_a_connection_of_a_pool(indexed, service, monkeypatch):
    """Statements are prepared here as often as can be, and few vectors make the index miss something."""
    settings, _ = indexed
    parameters = store.parameters
    monkeypatch.setattr(store, "parameters", lambda each: {**parameters(each), "prepare_threshold": 0})
    chance = random.Random(5)
    known, methods = {}, Counter()
    with Searcher(settings, connections=1) as asked:
        for _ in range(1000):
            number = chance.randrange(20)
            exact = chance.random() < 0.5
            request = Request(
                query=str(number), k=chance.choice([1, 10, 30]), exact=exact,
                mode=chance.choice(["semantic", "semantic", "hybrid"]),
                where=chance.choice([None, None, {"field": "metadata.kind", "value": "odd"}]),
            )  # fmt: skip
            found = asked.search(request)
            methods[exact, found.method] += 1
            if exact and request.mode == "semantic" and request.where is None:
                if number not in known:
                    known[number] = [f"{n:04}" for n in np.argsort(-(VECTORS @ VECTORS[number]), kind="stable")]
                assert ids(found.hits) == known[number][: request.k]
    assert methods.keys() <= {(True, "exact"), (False, "index"), (False, "exact")}
    assert methods[False, "index"] > 100
    assert Counting.made == 1


def test_trouble_of_a_pool_is_told_as_everywhere(plain, service, monkeypatch):
    settings, _ = plain
    monkeypatch.setattr(searcher, "_CONNECTION_SECONDS", 0.5)
    with (
        Searcher(settings.model_copy(update={"pgvector_port": 1})) as away,
        pytest.raises(StoreUnavailable, match=r"check PGVECTOR_\*"),
    ):
        away.search(Request(query="1"))
    with Searcher(settings) as asked:
        with pytest.raises(InvalidRequest, match="the table's have 8"):
            asked.search(Request(vector=(1.0,)))
        assert asked.search(Request(query="1", k=1)).hits[0].id == "0001"
        assert set(asked.search(Request(query="1")).took_ms) == {"embed", "wait", "database"}


def test_without_rights_on_the_progress_the_answer_is_as_of_nobody_knows_when(plain, postgres, service):
    settings, connection = plain
    connection.execute("DROP ROLE IF EXISTS reader")
    connection.execute("CREATE ROLE reader LOGIN")
    connection.execute("GRANT SELECT ON text_message_vectors, text_message_embeddings_space TO reader")
    reader = settings.model_copy(update={"pgvector_user": "reader"})
    with Searcher(reader) as asked:
        found = asked.search(Request(query="1"))
        assert (found.as_of, len(found.hits)) == (None, 10)
        with pytest.raises(ConfigError, match="GRANT SELECT on its progress"):
            asked.search(Request(query="1", wait_for={0: 1}))
    connection.execute("DROP OWNED BY reader")
    connection.execute("DROP ROLE reader")


# Chunks: document n has n % 4 + 1 of them.
DOCUMENTS = [[text(n * 4 + part) for part in range(n % 4 + 1)] for n in range(300)]


@pytest.fixture(scope="module")
def chunked(postgres):
    with postgres.fresh_database() as name:
        settings = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        store.prepare(settings, space(8), splitting=Splitter(Chunks(tokens=32), tokenizer()).identity)
        with store.connect(settings) as connection:
            for number, texts in enumerate(DOCUMENTS):
                put_document(connection, number, texts)
            connection.execute("ANALYZE")
            yield settings, connection


def put_document(connection, number, texts):
    connection.execute(
        "INSERT INTO text_message_embeddings_documents VALUES (%s, %s, '', 's', %s, %s::jsonb, %s, 0)",
        [f"d{number:03}", "\n".join(texts), MOMENT, json.dumps({"n": number}), len(texts)],
    )
    for seq, each in enumerate(texts):
        connection.execute(
            "INSERT INTO text_message_embeddings VALUES (%s, %s, %s, %s, %s, %s, %s, 'm', 'r', now(), 3, false)",
            [f"d{number:03}", seq.to_bytes(36), seq, seq * 10, seq * 10 + 9, each, VECTORS[number * 4 + seq].tolist()],
        )


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
def test_chunks_are_found_in_every_mode(chunked, mode):
    settings, connection = chunked
    facts = {"query": "apple", "mode": mode, "where": {"field": "metadata.n", "op": "lt", "value": 200}}
    found = answer(connection, settings, QUERY, k=500, **facts)
    known = {(f"d{n:03}", seq): each for n, texts in enumerate(DOCUMENTS[:200]) for seq, each in enumerate(texts)}
    assert {(hit.id, hit.chunk.seq): hit.text for hit in found.hits}.items() <= known.items()
    assert len({(hit.id, hit.chunk.seq) for hit in found.hits}) == len(found.hits)
    if mode == "keyword":
        assert {hit.text for hit in found.hits} == {each for each in known.values() if "apple" in each}
    else:
        assert len(found.hits) == len(known)


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
def test_documents_stand_once_in_every_mode_and_on_every_page(chunked, mode):
    settings, connection = chunked
    facts = {"query": "apple", "mode": mode, "group_by": "document"}
    whole = answer(connection, settings, QUERY, k=400, **facts)
    assert len(set(ids(whole.hits))) == len(whole.hits)
    assert whole.complete
    wanted = {f"d{n:03}" for n, texts in enumerate(DOCUMENTS) if mode != "keyword" or any("apple" in t for t in texts)}
    assert set(ids(whole.hits)) == wanted
    assert all(hit.matching_chunks >= 1 for hit in whole.hits)
    pages = [answer(connection, settings, QUERY, k=50, offset=n, **facts).hits for n in range(0, 300, 50)]
    assert [id for page in pages for id in ids(page)] == ids(whole.hits)


def test_more_like_a_document_of_several_chunks(chunked):
    settings, connection = chunked
    found = answer(connection, settings, id="d003", k=5)
    middle = VECTORS[12:16].mean(axis=0)
    best = max(
        (VECTORS[n * 4 + seq] @ middle / np.linalg.norm(middle), f"d{n:03}")
        for n, texts in enumerate(DOCUMENTS) for seq in range(len(texts)) if n != 3
    )  # fmt: skip
    assert found.hits[0].id == best[1]
    assert found.hits[0].similarity == pytest.approx(best[0], abs=1e-5)


def test_a_command_s_search_takes_one_connection_and_waits_on_it(plain, monkeypatch):
    settings, connection = plain
    monkeypatch.setattr(embedding, "embed_query", lambda *_, **__: Embedded(QUERY, 1, False))
    connection.execute(
        "INSERT INTO text_message_embeddings_progress (topic, partition, next) VALUES ('text-messages', 3, 8)"
    )
    found = search(settings, Request(query="x", wait_for={3: 7}))
    assert found.as_of == {3: 8}
    connection.execute("DELETE FROM text_message_embeddings_progress")
    assert isinstance(connection, psycopg.Connection)
