import gzip
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from embedstream.errors import StoreUnavailable
from embedstream.migrate.standing import Standing
from embedstream.search.answer import Answer, Hit, Places
from embedstream.search.problem import InvalidRequest, NotReached
from embedstream.status.health import Health
from embedstream.status.read import Partition, Status
from support.console import console

NASTY = "<script>alert('x')</script> \x1b[31m & \u202e"
MOMENT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
LOCAL = {"base_url": "http://localhost:8083"}
HIT = Hit("id/<1>", 0.5, 0.03, NASTY, "a&b", MOMENT, {"n": 2**60 + 1}, places=Places(1, 2), highlights=((0, 8),))
ANSWER = Answer((HIT,), "index", complete=True, as_of={0: 7}, took_ms={"database": 1.0}, next_offset=10)
HEALTHY = Status("topic", "table", job="RUNNING", messages=5, lag=0, unread=0, rows=4, rate=1.5, dead_letters=1)
DOWN = Status(
    "topic", "table", health=Health("down", [f"reason {NASTY}"]), away={"jobmanager": "away", "database": "away"}
)


def page(path, *readings, **facts):
    answer = console(*readings, **facts).test_client().get(path, **LOCAL)
    assert answer.status_code == 200
    return answer.text


def test_the_overview_says_what_is_known():
    text = page("/", HEALTHY)
    for words in ("Healthy", "<dt>messages</dt><dd>5</dd>", "<dt>rows a second</dt><dd>1.5</dd>", "all is read"):
        assert words in text


def test_a_migration_is_told_with_how_far_it_is():
    standing = Standing(
        "t", "copying", "one", f"other {NASTY}", "http://o", False, 0.25, MOMENT, None, 1000, 400, 10, 100.0, True, 6.1
    )  # fmt: skip
    text = page("/", replace(HEALTHY, migration=standing))
    assert "390 of 1,000 rows, 100 rows/s, done in 6.1 s" in text
    assert "embedstream migrate status" in text
    assert "<script>alert" not in text
    assert "Migration" not in page("/", HEALTHY)


def test_what_is_not_known_is_not_0():
    text = page("/", DOWN)
    assert "<dt>rows</dt><dd>not known</dd>" in text
    assert "<dt>state</dt><dd>not known</dd>" in text
    assert "&lt;script&gt;" in text
    assert "<script>alert" not in text


def test_before_the_first_look_it_says_that_it_looks():
    assert "for the first time" in page("/")


def test_where_nothing_answers_the_page_says_why():
    assert "the database is gone" in page("/parts/overview", StoreUnavailable("the database is gone"))


def test_an_empty_topic_is_a_beginning():
    text = page("/", Status("topic", "table", job="RUNNING", messages=0, lag=0, unread=0))
    assert "Send a first message" in text
    assert "embedstream send" in text


def test_no_job_says_how_to_start_one():
    assert "embedstream submit" in page("/", Status("topic", "table", messages=3))


def test_large_numbers_stay_exact():
    large = Status("topic", "table", partitions=[Partition(0, 2**53 + 1, 2**53 + 3, 2)])
    assert "9,007,199,254,740,993" in page("/", large)


def test_the_charts_are_told_what_was_seen():
    answer = console(HEALTHY, DOWN).test_client().get("/parts/history", **LOCAL)
    times, rates, lags, ages = answer.json
    assert len(times) == 2
    assert (rates, lags, ages) == ([1.5, None], [0, None], [0.0, None])
    assert console().test_client().get("/parts/history", **LOCAL).json == [[], [], [], []]


def test_what_is_found_shows_as_text():
    text = page("/search?q=x", answer=ANSWER)
    assert "<mark>&lt;script&gt;</mark>" in text
    assert "<script>alert" not in text
    assert "1152921504606846977" in text
    assert "offset 7 of partition 0" in text
    assert "/message/id/%3C1%3E" in text


def test_hidden_texts_are_hidden_everywhere():
    for path in ("/search?q=x", "/search?like=a"):
        text = page(path, answer=ANSWER, console_hide_texts=True)
        assert "alert" not in text
        assert f"hidden, {len(NASTY)} characters" in text
    answer = (
        console(answer=ANSWER, console_hide_texts=True).test_client().post("/v1/search", json={"query": "x"}, **LOCAL)
    )
    assert answer.json["hits"][0]["text"] is None
    assert "alert" not in answer.text


def test_what_cannot_be_looked_for_is_said_beside_the_form():
    text = page("/search?q=kept&where=nonsense", answer=ANSWER)
    assert "write key=value" in text
    assert 'value="kept"' in text


@pytest.mark.parametrize("query", ["page=-1", "page=x", "after=yesterday", "mode=magic"])
def test_a_link_that_means_nothing_is_said_to(query):
    assert 'role="alert"' in page(f"/search?q=x&{query}", answer=ANSWER)


def test_nothing_found_says_what_to_do():
    none = Answer((), "exact", complete=True, as_of=None)
    assert "search by meaning instead" in page("/search?q=x&mode=keyword", answer=none)
    assert "leave one out" in page("/search?q=x&where=a%3Db", answer=none)
    assert "not known which offsets" in page("/search?q=x", answer=none)


def test_a_pipeline_is_chosen_by_name():
    app = console(HEALTHY, names=("one", "two"))
    client = app.test_client()
    text = client.get("/?pipeline=two", **LOCAL).text
    assert 'aria-current="true">two</a>' in text
    unknown = client.get("/?pipeline=three", headers={"Accept": "text/html"}, **LOCAL)
    assert unknown.status_code == 400
    assert "there are one, two" in unknown.text


def test_settings_show_no_secret():
    text = page("/settings", pgvector_password=SecretStr("s3cret"))
    assert "s3cret" not in text
    assert "set (hidden)" in text
    assert "PGVECTOR_TABLE" in text


def test_no_such_page_is_a_page_for_people_and_a_problem_for_programs():
    client = console().test_client()
    assert "<h1>Not Found</h1>" in client.get("/nowhere", headers={"Accept": "text/html"}, **LOCAL).text
    assert client.get("/v1/nowhere", **LOCAL).json["error"]["code"] == "not_found"


def test_assets_are_kept_by_their_content():
    client = console().test_client()
    text = client.get("/", **LOCAL).text
    address = text.split('href="/static/console.css?v=')[1].split('"')[0]
    with client.get(f"/static/console.css?v={address}", **LOCAL) as answer:
        assert "immutable" in answer.headers["Cache-Control"]


def test_assets_are_packed_for_who_takes_that():
    client = console().test_client()
    with client.get("/static/console.css", **LOCAL) as whole:
        assert "Content-Encoding" not in whole.headers
        assert whole.headers["Vary"] == "Accept-Encoding"
        content = whole.data
    with client.get("/static/console.css", headers={"Accept-Encoding": "gzip, br"}, **LOCAL) as packed:
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "ETag" not in packed.headers
        assert int(packed.headers["Content-Length"]) == len(packed.data) < len(content)
        assert gzip.decompress(packed.data) == content
    with client.get("/static/none.css", headers={"Accept-Encoding": "gzip"}, **LOCAL) as missing:
        assert missing.status_code == 404


# The API


def ask(answer, body, **options):
    return console(answer=answer, **options).test_client().post("/v1/search", json=body, **LOCAL)


def test_a_program_gets_all_of_it():
    facts = ask(ANSWER, {"query": "x", "k": 3}).json
    [hit] = facts["hits"]
    assert hit["metadata"] == {"n": 2**60 + 1}
    assert hit["places"] == {"semantic": 1, "keyword": 2}
    assert hit["message_timestamp"] == "2026-11-28T12:00:00+00:00"
    assert (facts["method"], facts["complete"], facts["as_of"], facts["next_offset"]) == ("index", True, {"0": 7}, 10)
    assert facts["took_ms"] >= 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": "x", "id": "y"},
        {"query": "x", "k": 0},
        {"query": "x", "k": 10**9},
        {"query": "x", "mode": "magic"},
        {"query": "x", "pipeline": 3},
        {"query": "x", "pipeline": "nowhere"},
        {"query": "x", "where": {"field": "metadata.a"}},
        {"query": "x", "unknown": 1},
        {"vector": ["a"]},
        [],
        "x",
    ],
)
def test_what_means_nothing_is_refused_in_a_sentence(body):
    answer = ask(ANSWER, body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_request")
    assert answer.json["error"]["message"]


def test_what_is_no_json_is_refused():
    client = console(answer=ANSWER).test_client()
    answer = client.post("/v1/search", data=b"{", content_type="application/json", **LOCAL)
    assert answer.json["error"]["code"] == "not_json"
    assert client.post("/v1/search", data=b"{}", **LOCAL).status_code == 415


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotReached("not yet", {0: 1}), 503, "not_reached"),
        (StoreUnavailable("gone"), 503, "unavailable"),
        (InvalidRequest("no such row"), 400, "invalid_request"),
        (ValueError("secret"), 500, "internal_error"),
    ],
)
def test_what_goes_wrong_has_a_code(error, status, code):
    answer = ask(error, {"query": "x"})
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert "secret" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)
