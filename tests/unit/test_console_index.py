import threading
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from embedstream.console import indexing
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.index.recall import Recall
from embedstream.index.seen import Needs, Seen
from embedstream.index.state import Index
from support.console import console, until

MOMENT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
LOCAL = {"base_url": "http://localhost:8083"}
DEFINITION = "CREATE INDEX t_hnsw ON t USING hnsw (<script>)"
VALID = Index("valid", "t_hnsw", DEFINITION, 5 * 2**20)
NONE = Index("none")
NEEDS = Needs(70_000, 170, fits=True, workers=2)
FOUND = Recall("t", 70_000, "t_hnsw", 10, None, 20, 0.93, 0.5, 7.96, 150.0)


@pytest.fixture
def seen(monkeypatch):
    """What is seen of the three indexes; an exception is raised."""
    found = {"vector": VALID, "words": NONE, "metadata": NONE, "needs": NEEDS, "looks": 0}

    def see(_):
        found["looks"] += 1
        if "error" in found:
            raise found["error"]
        return [Seen(kind, found[kind], found["needs"]) for kind in ("vector", "words", "metadata")]

    monkeypatch.setattr(indexing, "see", see)
    monkeypatch.setattr(indexing, "_KEPT_FOR", 0.0)
    return found


def part(**settings):
    return console(**settings).test_client().get("/parts/index", **LOCAL).text


def test_a_valid_index_shows_what_it_is(seen):
    text = part()
    for words in (
        "Vector index: valid",
        "<code>t_hnsw</code>",
        "5.0 MiB",
        "USING hnsw (&lt;script&gt;)",
        "Word index: none",
    ):
        assert words in text
    assert "embedstream index status --words" in text


def test_none_says_what_that_means_and_what_a_build_takes(seen):
    seen["vector"] = NONE
    text = part()
    for words in (
        "searches are exact",
        "about 70,000 rows",
        "170 MiB",
        "once the table has 50,000 rows",
        "index build",
    ):
        assert words in text
    assert "several times slower" not in text
    seen["needs"] = Needs(7_000_000, 512, fits=False, workers=0)
    assert "several times slower" in part()
    assert "nobody builds it by itself" in part(index="off")


def test_one_that_was_dropped_by_hand_says_how_long_it_stays_away(seen):
    seen["vector"] = Index("none", dropped_at=MOMENT)
    assert "until a backlog has come and gone" in part()
    assert "until somebody builds it" in part(index="off")


def test_a_build_shows_how_far_it_is_and_what_is_not_known_is_said(seen):
    seen["vector"] = Index("building", "t_hnsw", DEFINITION, 0, "building index: loading tuples", 41.6, 5_000_001, 7)
    text = part()
    assert 'value="41.6"' in text
    assert "5,000,001" in text
    seen["vector"] = Index("building")
    assert "Phase not known" in part()
    assert "<dd>not known</dd>" in part()


def test_an_invalid_index_says_what_to_do(seen):
    seen["vector"] = Index("invalid", "t_hnsw", DEFINITION, 8192)
    assert "build it anew, or drop it" in part()


def test_where_the_database_is_away_the_page_says_so(seen):
    seen["error"] = StoreUnavailable("PostgreSQL at x: gone")
    assert "PostgreSQL at x: gone" in part()


def test_many_viewers_cost_one_look(seen, monkeypatch):
    monkeypatch.setattr(indexing, "_KEPT_FOR", 60.0)
    client = console().test_client()
    for _ in range(10):
        client.get("/parts/index", **LOCAL)
    assert seen["looks"] == 1


def post(client, path, **headers):
    return client.post(path, headers=headers, **LOCAL)


def test_a_build_is_begun_watched_and_stopped(seen, monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    def build(settings, watch, *, kind):
        try:
            while True:
                begun.set()
                watch(Index("building", tuples=5))
        finally:
            ended.set()

    monkeypatch.setattr(indexing.build, "build", build)
    seen["words"] = NONE
    client = console().test_client()
    answer = post(client, "/index/build?kind=words")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/index")
    assert begun.wait(5)
    assert "Stop the build" in client.get("/parts/index", **LOCAL).text
    post(client, "/index/stop?kind=words")
    assert ended.wait(5)
    until(lambda: "The build was stopped" in client.get("/parts/index", **LOCAL).text)


def test_why_a_build_failed_is_shown(seen, monkeypatch):
    def build(*_, **__):
        raise ConfigError("another index of table t is being built")

    monkeypatch.setattr(indexing.build, "build", build)
    client = console().test_client()
    post(client, "/index/build?kind=metadata")
    until(lambda: "another index of table t is being built" in client.get("/parts/index", **LOCAL).text)


def test_a_drop_asks_first(seen, monkeypatch):
    dropped = []
    monkeypatch.setattr(indexing.build, "drop", lambda settings, kind: dropped.append(kind))
    client = console().test_client()
    asked = client.get("/index/drop?kind=vector", **LOCAL).text
    assert "searches are exact" in asked
    assert "until a backlog has come and gone" in asked
    assert dropped == []
    post(client, "/index/drop?kind=vector")
    until(lambda: dropped == ["vector"])


@pytest.mark.parametrize("path", ["/index/build?kind=vector", "/index/drop?kind=vector", "/index/stop?kind=vector"])
def test_who_may_only_look_changes_nothing(seen, monkeypatch, path):
    for name in ("build", "drop"):
        monkeypatch.setattr(indexing.build, name, lambda *_, **__: pytest.fail("it acted"))
    client = console(console_api_key=SecretStr("w"), console_read_key=SecretStr("r")).test_client()
    reader = {"Authorization": "Bearer r"}
    assert client.post(path, headers=reader).status_code == 403
    text = client.get("/parts/index", headers=reader).text
    assert "Log in with CONSOLE_API_KEY" in text
    assert "<button" not in text.replace('<button type="button" class="copy', "")
    assert client.get(path, headers=reader).status_code in (200, 405)


@pytest.mark.parametrize("kind", ["", "other", "vector'--"])
def test_a_kind_that_there_is_not_is_refused(seen, kind):
    answer = console().test_client().post("/index/build", query_string={"kind": kind}, **LOCAL)
    assert answer.status_code == 400


def test_recall_is_measured_beside_the_page(seen, monkeypatch):
    asked = []

    def measure(settings, find, **facts):
        asked.append({name: facts[name] for name in ("k", "queries", "ef_search")})
        return FOUND

    monkeypatch.setattr(indexing.recall, "measure", measure)
    client = console().test_client()
    assert "embedstream index recall" in client.get("/index", **LOCAL).text
    client.post("/parts/recall", data={"k": "5", "rows": "", "ef_search": "200"}, **LOCAL)
    until(lambda: "93.0 % of the 10 nearest rows are found" in client.get("/parts/recall", **LOCAL).text)
    assert asked == [{"k": 5, "queries": 20, "ef_search": 200}]
    text = client.get("/parts/recall", **LOCAL).text
    assert "<dd>50 %</dd>" in text
    assert "embedstream index recall -k 10 --rows 20" in text


@pytest.mark.parametrize("k", ["0", "-1", "x", "1001", "1.5"])
def test_a_number_that_means_nothing_is_said_to(seen, k):
    answer = console().test_client().post("/parts/recall", data={"k": k}, **LOCAL)
    assert (answer.status_code, "write a number from 1 to 1,000" in answer.text) == (200, True)


def test_where_there_is_nothing_to_measure_it_says_why(seen, monkeypatch):
    def measure(*_, **__):
        raise ConfigError("table t has no valid vector index")

    monkeypatch.setattr(indexing.recall, "measure", measure)
    client = console().test_client()
    client.post("/parts/recall", **LOCAL)
    until(lambda: "no valid vector index" in client.get("/parts/recall", **LOCAL).text)
