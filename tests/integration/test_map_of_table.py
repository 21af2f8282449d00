"""The sample that the map shows, of real tables."""

import pytest

from embedstream import store
from embedstream.console.app import create_app
from embedstream.console.parts import Parts
from embedstream.errors import ConfigError
from embedstream.search import neighbours
from support.console import until
from support.index import fill, space

LOCAL = {"base_url": "http://localhost:8083"}


def test_of_a_small_table_it_is_all_of_it(filled):
    found = neighbours.read(filled)
    assert found.rows == len(found.points) == 2000
    assert len({point.id for point in found.points}) == 2000
    assert found.nearest.shape == (2000, neighbours.NEAREST)
    point = found.points[0]
    assert (point.text, point.characters) == (f"text {point.id}", len(point.text))
    assert set(point.metadata) == {"rare"}


def test_of_a_large_one_it_is_a_part_and_the_same_each_time(filled, monkeypatch):
    monkeypatch.setattr(neighbours, "MOST", 300)
    with store.connect(filled) as connection:
        connection.execute("ANALYZE text_message_embeddings")
    ids = [[point.id for point in neighbours.read(filled).points] for _ in range(2)]
    assert ids[0] == ids[1]
    assert 200 < len(ids[0]) <= 300
    monkeypatch.setattr(neighbours, "_ALL_READ", 1000)
    assert 20 <= len(neighbours.read(filled).points) <= 300


def test_too_few_rows_make_no_map(database):
    with pytest.raises(ConfigError, match="there is no table"):
        neighbours.read(database)
    store.prepare(database, space(8))
    fill(database, neighbours.LEAST - 1)
    with pytest.raises(ConfigError, match="has too few rows for a map: it takes 20"):
        neighbours.read(database)


def test_the_page_is_told_it(filled):
    parts = Parts.of(filled)
    client = create_app(parts).test_client()
    until(lambda: client.get("/map/points", **LOCAL).status_code != 202, 30)
    facts = client.get("/map/points", **LOCAL).json
    parts.close()
    assert len(facts["ids"]) == len(facts["texts"]) == 2000
    assert facts["fields"]["rare"]["values"] == ["false", "true"]
