import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.console import atlas
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.search.answer import Answer, Hit
from embedstream.search.neighbours import NEAREST, Neighbours, Point, graph
from support.console import console, until
from support.index import MOMENT

LOCAL = {"base_url": "http://localhost:8083"}
NASTY = "<script>alert('x')</script>"


def point(number, **metadata):
    return Point(f"id-{number}", NASTY, 25, "docs", metadata)


def sample(*points):
    vectors = np.random.default_rng(7).standard_normal((len(points), 4))
    return Neighbours(10**6, tuple(points), *graph(vectors))


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_the_neighbours_are_those_of_the_smallest_distances(count, seed):
    vectors = np.random.default_rng(seed).standard_normal((count, 8))
    nearest, distances = graph(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    away = 1 - unit @ unit.T
    np.fill_diagonal(away, np.inf)
    expected = np.sort(away, axis=1)[:, :NEAREST][:, : count - 1]
    assert np.allclose(distances, expected, atol=1e-5)
    assert np.allclose(np.take_along_axis(away, nearest.astype(np.int64), axis=1), expected, atol=1e-5)
    assert all(each not in nearest[each] for each in range(count))


def test_many_rows_go_by_blocks_and_tell_how_far_they_are():
    seen = []
    nearest, distances = graph(np.random.default_rng(7).standard_normal((1100, 4)), seen.append)
    assert seen == [512, 1024, 1100]
    assert nearest.shape == distances.shape == (1100, NEAREST)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_rows_of_one_text_or_none_are_no_trouble():
    nearest, distances = graph([[1.0, 0.0]] * 3 + [[0.0, 0.0]])
    assert np.isfinite(distances).all()
    assert nearest.max() < 4


def test_what_tells_rows_apart_can_colour_them():
    points = [point(n, kind="ab"[n % 2], id=n, same=1, flag=n > 5, tags=[n]) for n in range(12)]
    found = atlas.fields(points)
    assert set(found) == {"kind", "flag"}
    assert found["flag"]["values"] == ["false", "true"]
    assert found["kind"]["of"] == [0, 1] * 6


def test_the_most_frequent_values_have_a_colour_each():
    points = [point(n, module=f"m{n // 3}") for n in range(60)]
    found = atlas.fields(points)["module"]
    assert len(found["values"]) == 8
    assert found["of"][:3] == [0, 0, 0]
    assert found["of"][-1] == -1


def made(monkeypatch, found):
    def read(settings, update):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(atlas.neighbours, "read", read)


def points(app):
    client = app.test_client()
    until(lambda: client.get("/map/points", **LOCAL).status_code != 202)
    return client.get("/map/points", **LOCAL)


def test_the_script_is_told_all_of_it(monkeypatch):
    made(monkeypatch, sample(*(point(n, large=2**60 + n % 2) for n in range(20))))
    facts = points(console()).json
    nearest = np.frombuffer(base64.b64decode(facts["nearest"]), dtype="<i4").reshape(20, facts["count"])
    assert (facts["rows"], facts["count"], nearest.shape) == (10**6, 16, (20, 16))
    assert facts["ids"][3] == "id-3"
    assert facts["texts"][0] == NASTY
    assert facts["fields"]["large"]["values"] == [str(2**60), str(2**60 + 1)]


def test_hidden_texts_are_hidden(monkeypatch):
    made(monkeypatch, sample(*map(point, range(20))))
    answer = points(console(console_hide_texts=True))
    assert "alert" not in answer.text
    assert answer.json["texts"][0] == "(hidden, 25 characters)"


@pytest.mark.parametrize("error", [ConfigError("too few rows for a map"), StoreUnavailable("gone")])
def test_why_there_is_no_map_is_said(monkeypatch, error):
    made(monkeypatch, error)
    answer = points(console())
    assert (answer.status_code, answer.json) == (503, {"error": str(error)})


def test_what_a_search_finds_is_named():
    hit = Hit("a/b", 0.5, 0.5, NASTY, None, MOMENT, {})
    client = console(answer=Answer((hit,), "exact", complete=True, as_of=None)).test_client()
    assert client.get("/map/hits?q=x", **LOCAL).json == {"ids": ["a/b"]}
    away = console(answer=StoreUnavailable("gone")).test_client().get("/map/hits?q=x", **LOCAL)
    assert (away.status_code, away.json) == (503, {"error": "gone"})


def test_only_the_layout_may_run_webassembly():
    client = console().test_client()
    for path in ("/map", "/static/map.js"):
        with client.get(path, **LOCAL) as answer:
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
    with client.get("/map/layout.js", **LOCAL) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.mimetype == "text/javascript"
    assert "script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' data:" in policy
    assert "'unsafe-" not in policy
