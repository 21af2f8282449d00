import json

import numpy as np
import pytest

from embedstream import store
from embedstream.index.build import build
from embedstream.settings import load_settings
from support.index import NAME, RANDOM, fill, space
from support.search import nearest, where

RARE = {"field": "metadata", "op": "contains", "value": {"rare": True}}


@pytest.mark.parametrize(
    ("dimension", "type_"), [(384, "vector"), (2000, "vector"), (2001, "halfvec"), (3000, "halfvec")]
)
def test_queries_of_the_view_and_the_search_use_it(database, dimension, type_):
    store.prepare(database, space(dimension))
    fill(database, 300, dimension)
    assert f"::{type_}({dimension})) {type_}_cosine_ops" in build(database).definition
    vector = RANDOM.standard_normal(dimension).astype(np.float32)
    with store.connect(database) as connection:
        # So few rows are read faster than the index; what matters is whether it can be used.
        connection.execute("SET enable_seqscan = off")
        explained = "EXPLAIN SELECT id FROM text_message_vectors ORDER BY embedding <=> %s LIMIT 5"
        plan = str(connection.execute(explained, [str(vector.tolist())]).fetchall())
        assert f"Index Scan using {NAME}" in plan
        hits = nearest(connection, database, vector, 5, ef_search=300)
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s"
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert connection.execute(scans, [NAME]).fetchone() > (0,)
        exact = nearest(connection, database, vector, 5, exact=True)
    assert [hit.id for hit in hits] == [hit.id for hit in exact]
    assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)


def test_the_planner_takes_it_on_its_own_where_the_table_is_large(filled):
    fill(filled, 8000, first=2000)
    build(filled)
    with store.connect(filled) as connection:
        connection.execute("ANALYZE text_message_embeddings")
        nearest = "SELECT id FROM text_message_vectors ORDER BY embedding <=> '[1,0,0,0,0,0,0,0]' LIMIT 10"
        assert NAME in str(connection.execute(f"EXPLAIN {nearest}").fetchall())


def test_more_rows_than_the_index_gives_at_once_and_rows_that_few_pass(filled):
    build(filled)
    vector = RANDOM.standard_normal(8).astype(np.float32)
    with store.connect(filled) as connection:
        connection.execute("SET enable_seqscan = off")
        for wishes in ({"k": 150}, {"k": 4, "where": RARE}, {"k": 10, "where": RARE}, {"k": 3, "ef_search": 1}):
            hits = nearest(connection, filled, vector, **wishes)
            assert len(hits) == (4 if "where" in wishes else wishes["k"])
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("40",)


METADATA = {
    "number": {"year": 2024}, "string": {"year": "2024"}, "float": {"year": 2024.0}, "other": {"year": 2025},
    "true": {"x": True}, "word": {"x": "true"}, "null": {"x": None}, "nan": {"x": "NaN"}, "zero": {"x": "\ufffd"},
    "big": {"x": 12345678901234567890123}, "nested": {"a": {"b": 1, "c": [1, 2]}, "tags": ["p", "q"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def with_metadata(postgres):
    with postgres.fresh_database() as name:
        settings = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        store.prepare(settings, space(8))
        fill(settings, len(METADATA))
        with store.connect(settings) as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM text_message_embeddings ORDER BY id")]
            rename = "UPDATE text_message_embeddings SET id = %s, metadata = %s::jsonb WHERE id = %s"
            for id, (new, metadata) in zip(ids, METADATA.items(), strict=True):
                connection.execute(rename, [new, json.dumps(metadata), id])
            yield connection, settings


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["year=2024"], {"number", "string", "float"}),
        (["year=2024.0"], {"number", "float"}),
        (["year=2.024e3"], {"number", "float"}),
        (['year="2024"'], {"string"}),
        (['{"year": 2024}'], {"number", "float"}),
        (["year=2024", "year=2025"], set()),
        (["x=true"], {"true", "word"}),
        (["x=null"], {"null"}),
        (["x=NaN"], {"nan"}),
        (["x=Infinity"], set()),
        (["x=1e999999"], set()),
        (["x=12345678901234567890123"], {"big"}),
        (['x="\\u0000"'], {"zero"}),
        (["x=\udcff"], {"zero"}),
        (['a={"b": 1}'], {"nested"}),
        (['a={"c": [2]}', 'tags=["q"]'], {"nested"}),
        (['a={"b": "1"}'], set()),
        (["100%=s", "%s=%(count)s"], set()),
        (["a=" + "[" * 200 + "]" * 200], set()),
    ],
    ids=lambda part: " ".join(sorted(part)) if isinstance(part, set) else str(part)[:40],
)
def test_rows_are_filtered_by_what_a_condition_can_mean(with_metadata, conditions, found):
    connection, settings = with_metadata
    vector = np.ones(8, dtype=np.float32)
    hits = nearest(connection, settings, vector, 20, where=where(*conditions))
    assert {hit.id for hit in hits} == found
