import numpy as np
import pytest

from embedstream import store
from embedstream.index.build import build
from embedstream.search import Wishes, nearest
from support.index import NAME, RANDOM, fill, space


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
        hits = nearest(connection, database, vector, Wishes(5))
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s"
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert connection.execute(scans, [NAME]).fetchone() > (0,)
        exact = nearest(connection, database, vector, Wishes(5, exact=True))
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
        for wishes in (Wishes(150), Wishes(4, {"rare": True}), Wishes(10, {"rare": True}), Wishes(3, ef_search=1)):
            hits = nearest(connection, filled, vector, wishes)
            assert len(hits) == (4 if wishes.where else wishes.count)
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("40",)
