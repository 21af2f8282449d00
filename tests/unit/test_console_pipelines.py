import pytest

from embedstream.console import pipelines
from embedstream.decode.message import Record
from embedstream.decode.spec import Decoding
from embedstream.errors import ConfigError
from embedstream.pipelines.trying import tried
from embedstream.status.health import Health
from embedstream.status.read import Status
from support.console import console, until

LOCAL = {"base_url": "http://localhost:8083"}
NASTY = "<script>alert('x')</script>"
HEALTHY = Status("topic", "table", job="RUNNING", messages=5, lag=0, unread=0)
DOWN = Status("topic", "table", health=Health("down", [f"reason {NASTY}"]))
FILE = """
version: 1
pipelines:
  one: {topic: t-one, table: one, text: value.body}
  two: {topic: t-two, table: two}
"""


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "embedstream.yaml"
    path.write_text(FILE)
    return path


def page(*readings, **facts):
    answer = console(*readings, **facts).test_client().get("/pipelines", **LOCAL)
    assert answer.status_code == 200
    return answer.text


def test_without_a_file_it_says_what_one_would_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page(HEALTHY)
    for words in (
        "There is no pipeline file",
        "docs/reference/pipeline-file.md",
        "embedstream pipelines try",
        "healthy",
    ):
        assert words in text
    assert "<code>text-messages-dead-letters</code>" in text


def test_each_is_shown_with_its_health_and_its_mapping():
    text = page(DOWN, names=("one", "two"), decoding=Decoding(text="value.body", where="value.kind == 'a<b'"))
    assert "one: down" in text
    assert "two: not known yet" in text
    assert "reason &lt;script&gt;" in text
    assert "text: value.body" in text
    assert "value.kind == &#39;a&lt;b&#39;" in text
    assert "<script>alert" not in text


def test_a_file_that_changed_or_does_not_hold_is_said_to(written):
    assert "The file has changed" in page(HEALTHY, embedstream_file=written)
    written.write_text("version: 1\npipelines: {one: {table: t}}\n")
    text = page(HEALTHY, embedstream_file=written)
    assert "does not hold any more" in text
    assert "topic" in text


RECORDS = [
    Record(
        b"k",
        b'{"id": "a<b", "text": "<script>alert(1)</script>", "metadata": {"n": 1152921504606846977}}',
        "t",
        0,
        7,
        0,
    ),
    Record(b"gone", None, "t", 0, 8, 0),
    Record(None, b"\xff\xfe", "t", 1, 9, 0, {"x": b"<i>"}),
]


def becomes(app, **form):
    client = app.test_client()
    client.post("/parts/try", data=form, **LOCAL)
    until(lambda: "every 1s" not in client.get("/parts/try", **LOCAL).text)
    return client.get("/parts/try", **LOCAL).text


@pytest.fixture
def topic(monkeypatch):
    """Its latest records, and how many were asked for."""
    held = {"records": RECORDS, "asked": []}

    def latest(settings, count):
        held["asked"].append(count)
        if isinstance(held["records"], Exception):
            raise held["records"]
        return held["records"]

    monkeypatch.setattr(pipelines, "latest", latest)
    return held


def test_records_stand_beside_what_they_would_become(topic):
    text = becomes(console(), last="3")
    assert topic["asked"] == [3]
    for words in (
        "<dd>a&lt;b</dd>",
        "1152921504606846977",
        "<dt>delete</dt><dd>gone</dd>",
        "not_utf8",
        "ff fe",
        "&lt;i&gt;",
    ):
        assert words in text, words
    assert "<script>alert" not in text
    assert text.index("offset 9") < text.index("offset 7")


def test_hidden_texts_are_hidden(topic):
    text = becomes(console(console_hide_texts=True))
    assert "alert" not in text
    assert "(hidden, 25 characters)" in text
    assert "bytes)" in text


def test_what_the_mapping_leaves_out_is_said_to_be(topic):
    text = becomes(console(decoding=Decoding(where="value.kind == 'x'")))
    assert "<code>where</code> leaves it out" in text


def test_an_empty_topic_says_how_to_send(topic):
    topic["records"] = []
    assert "embedstream send" in becomes(console())


def test_why_it_cannot_be_read_is_said(topic):
    topic["records"] = ConfigError("Kafka at x does not answer")
    assert "Kafka at x does not answer" in becomes(console())


@pytest.mark.parametrize("last", ["0", "21", "x", "-1"])
def test_a_number_that_means_nothing_is_refused(topic, last):
    assert console().test_client().post("/parts/try", data={"last": last}, **LOCAL).status_code == 400
    assert topic["asked"] == []


def test_large_texts_and_many_chunks_are_cut():
    class Splitter:
        def split(self, text, prefix):
            return [type("Chunk", (), {"text": f"chunk {n}"}) for n in range(7)]

    value = b'{"id": "1", "text": "' + b"x" * 5000 + b'"}'
    record = Record(None, value, "t", 0, 0, 0)
    facts = tried(record, pipelines.decoder_of(console().extensions["parts"].settings, None), Splitter())
    [message] = pipelines._tried(record, facts).becomes["messages"]
    assert (len(message["text"]), message["characters"]) == (2001, 5000)
    assert (len(message["chunks"]), message["chunk_count"]) == (5, 7)
