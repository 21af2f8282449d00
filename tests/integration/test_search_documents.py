"""The search by document over a table of chunks, beside a model in numpy."""

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from embedstream import embedding, store
from embedstream.cli import app
from embedstream.decode.chunks import Splitter
from embedstream.decode.spec import Chunks
from embedstream.index.build import build
from embedstream.index.recall import measure
from embedstream.ingest import Embedded
from embedstream.search import neighbours
from embedstream.search.answer import Chunk
from embedstream.search.searcher import Searcher
from embedstream.settings import load_settings
from support.index import fill, look, space
from support.search import nearest, where
from support.tokenizers import words

MOMENT = datetime(2025, 11, 24, 16, tzinfo=UTC)
QUERY = np.eye(8, dtype=np.float32)[0]
# Chunks of each document, and how far apart from the words they begin to be.
SIZES = {"long": (4000, 0.0), **{f"d{n:03}": (1 + n % 5, 0.05 + n / 400) for n in range(300)}}


@pytest.fixture(scope="module")
def chunks():
    """Each document's vectors: of `long` there are more, and nearer, than any first candidates."""
    random = np.random.default_rng(3)
    found = {}
    for id, (count, angle) in SIZES.items():
        angles = angle + np.linspace(0, 0.0391, count)
        beside = random.standard_normal((count, 7))
        beside /= np.linalg.norm(beside, axis=1)[:, None]
        vectors = np.hstack([np.cos(angles)[:, None], np.sin(angles)[:, None] * beside]).astype(np.float32)
        found[id] = random.permutation(vectors)
    return found


@contextmanager
def chunk_table(postgres, chunks):
    with postgres.fresh_database() as name:
        settings = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        store.prepare(settings, space(8), splitting=Splitter(Chunks(tokens=32), words()).identity)
        with store.connect(settings) as connection:
            for id, vectors in chunks.items():
                insert(connection, id, vectors)
            connection.execute("ANALYZE")
        yield settings


@pytest.fixture(scope="module")
def chunked(postgres, chunks):
    with chunk_table(postgres, chunks) as settings:
        yield settings


@pytest.fixture(scope="module", params=["vector", "halfvec"])
def indexed(request, postgres, chunks):
    with chunk_table(postgres, chunks) as table:
        settings = table.model_copy(update={"index_type": request.param})
        build(settings)
        yield settings


def nearest_documents(connection, settings, vector, k, **facts):
    return nearest(connection, settings, vector, k, group_by="document", **facts)


def insert(connection, id, vectors):
    metadata = json.dumps({"even": int(id[1:]) % 2 == 0} if id != "long" else {"even": True})
    connection.execute(
        "INSERT INTO text_message_embeddings_documents VALUES (%s, 'whole', '', 'web', %s, %s::jsonb, %s, 0)",
        [id, MOMENT, metadata, len(vectors)],
    )
    with connection.cursor().copy(
        'COPY text_message_embeddings (id, chunk_key, seq, start, "end", text, embedding, model_name, model_revision,'
        " embedding_timestamp, token_count, truncated) FROM STDIN"
    ) as copy:
        for seq, vector in enumerate(vectors):
            key = seq.to_bytes(36)
            row = (id, key, seq, seq * 10, seq * 10 + 9, f"chunk {seq}", vector.tolist(), "m", "r", MOMENT, 3, False)
            copy.write_row(row)


def expected(chunks, count, ids=None):
    """(similarity, id, seq, matching chunks) of the nearest documents."""
    similar = {id: vectors.astype(float) @ QUERY for id, vectors in chunks.items() if ids is None or id in ids}
    best = sorted((-found.max(), id) for id, found in similar.items())[:count]
    least = -best[-1][0]
    return [(-s, id, int(similar[id].argmax()), int((similar[id] >= least - 1e-7).sum())) for s, id in best]


def shape(documents):
    return [(hit.id, hit.chunk.seq, hit.matching_chunks) for hit in documents]


def check(found, wanted):
    assert shape(found) == [(id, seq, chunks) for _, id, seq, chunks in wanted]
    assert [hit.similarity for hit in found] == pytest.approx([similarity for similarity, *_ in wanted], abs=1e-6)


@pytest.mark.parametrize("exact", [False, True], ids=["no index", "exact"])
def test_each_document_stands_once_with_its_best_chunk(chunked, chunks, exact):
    with store.connect(chunked) as connection:
        found = nearest_documents(connection, chunked, QUERY, 10, exact=exact)
    check(found, expected(chunks, 10))
    first = found[0]
    seq, start, end = first.chunk
    assert (first.id, first.text, first.source) == ("long", f"chunk {seq}", "web")
    assert (first.message_timestamp, first.metadata) == (MOMENT, {"even": True})
    assert (start, end, first.matching_chunks) == (seq * 10, seq * 10 + 9, 4000)


def test_a_document_that_fills_the_first_candidates_hides_no_other(indexed, chunks):
    """The index is asked for more until there are enough: all chunks of `long` are nearer than any other."""
    with store.connect(indexed) as connection:
        connection.execute("SET enable_seqscan = off")
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s"
        assert {hit.id for hit in nearest(connection, indexed, QUERY, 200)} == {"long"}
        connection.execute("SELECT pg_stat_force_next_flush()")
        name = look(indexed).name
        before = connection.execute(scans, [name]).fetchone()[0]
        found = nearest_documents(connection, indexed, QUERY, 10)
        exact = nearest_documents(connection, indexed, QUERY, 10, exact=True)
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert connection.execute(scans, [name]).fetchone()[0] > before
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("40",)
    check(exact, expected(chunks, 10))
    # An index may miss a neighbour: what it gives is right all the same.
    assert found[0].id == "long"
    assert len({hit.id for hit in found}) == 10
    assert len({hit.id for hit in found} & {hit.id for hit in exact}) >= 9


@pytest.mark.parametrize("exact", [False, True], ids=["index", "exact"])
def test_fewer_documents_than_were_asked_for_are_all_that_there_are(indexed, chunks, exact):
    with store.connect(indexed) as connection:
        found = nearest_documents(connection, indexed, QUERY, 1000, exact=exact)
        none = nearest_documents(connection, indexed, QUERY, 5, where=where("even=maybe"), exact=exact)
    check(found, expected(chunks, 1000))
    assert none == []


def test_only_documents_that_pass_the_filter_count(indexed, chunks):
    odd = {id for id in SIZES if id != "long" and int(id[1:]) % 2}
    with store.connect(indexed) as connection:
        found = nearest_documents(connection, indexed, QUERY, 10, where=where("even=false"), exact=True)
        by_index = nearest_documents(connection, indexed, QUERY, 10, where=where("even=false"))
    check(found, expected(chunks, 10, odd))
    assert {hit.id for hit in by_index} <= odd
    assert len(by_index) == 10


def test_a_whole_text_is_a_document_of_one_chunk(database):
    store.prepare(database, space(8))
    fill(database, 50)
    with store.connect(database) as connection:
        rows = nearest(connection, database, QUERY, 7)
        documents = nearest_documents(connection, database, QUERY, 7)
    assert documents == [replace(row, chunk=Chunk(0, 0, len(row.text)), matching_chunks=1) for row in rows]


@pytest.fixture
def run(chunked, monkeypatch):
    """`embedstream search` for words of which the vector is QUERY."""
    for name in ("pgvector_host", "pgvector_port", "pgvector_db"):
        monkeypatch.setenv(name.upper(), str(getattr(chunked, name)))
    monkeypatch.setattr(embedding, "embed_query", lambda *_, **__: Embedded(QUERY, 1, truncated=False))

    def run(*options):
        done = CliRunner().invoke(app, ["search", "words", "--count", "2", *options])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_the_command_prints_chunks_unless_documents_are_asked_for(run):
    assert run() == run("--by", "chunk")
    rows = json.loads(run("--json"))
    assert [row["id"] for row in rows] == ["long", "long"]
    fields = ["similarity", "id", "text", "source", "message_timestamp", "metadata"]
    assert list(rows[0])[:6] == fields
    documents = json.loads(run("--by", "document", "--json"))
    assert [row["id"] for row in documents] == ["long", "d000"]
    assert list(documents[0])[:10] == [*fields, "seq", "start", "end", "matching_chunks"]
    first, second = run("--by", "document").splitlines()[1:]
    assert first.split()[1:3] == ["long", "chunk"]
    assert second.split()[1:] == ["d000", "chunk", "0"]


def test_a_sample_of_them_is_of_chunks(chunked):
    found = neighbours.read(chunked)
    assert found.rows == len(found.points) == sum(count for count, _ in SIZES.values())
    assert {point.id for point in found.points} == set(SIZES)


def test_the_recall_of_their_index_can_be_measured(indexed):
    with Searcher(indexed, connections=1) as searcher:
        found = measure(indexed, searcher.search, queries=5)
    assert 0 <= found.worst <= found.mean <= 1
