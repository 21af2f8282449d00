"""The pages of dead letters, over a topic that a test makes up."""

import logging
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from embedstream.console import letters
from embedstream.dead_letters.letter import DeadLetter, Facts, Filter, Place
from embedstream.dead_letters.listing import Mark, Span, Survey
from embedstream.dead_letters.rehearsal import Rehearsal
from embedstream.dead_letters.replay import Replayed
from embedstream.errors import ConfigError
from support.console import console

LOCAL = {"base_url": "http://localhost:8083"}
MOMENT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
NASTY = "<script>alert('x')</script> \x1b[31m & \u202e"
FACTS = Facts(
    Place(0, 17), MOMENT, "decode", "not_json", f"is no JSON {NASTY}", 2, "text-messages", Place(1, 2**53 + 1), 0, None
)
VALUE = b'{"id":"a/<b>","text":"hello"}'
LETTER = DeadLetter(FACTS, b"k", VALUE, (("trace", b"\xff\x00"), ("dlq.stage", b"decode")))
WHOLE = Span(0, 0, 18, 0)
SURVEY = Survey([FACTS], Counter({("decode", "not_json"): 3}), {FACTS.place: Mark("replayed", Place(1, 9))}, [WHOLE])
RECORD = {"partition": 1, "key": "k", "size": 28, "begins": NASTY, "becomes": "stored as a/<b>"}
REHEARSAL = Rehearsal(Replayed(1, 2, 3), [RECORD], frozenset({FACTS.place}))


class Topic:
    """Answers as the dead-letter topic would, and remembers what it was asked."""

    def __init__(self):
        self.survey_ = SURVEY
        self.letter = LETTER
        self.rehearsal = REHEARSAL
        self.asked = []
        self.sent = []

    def survey(self, _settings, wanted, *_):
        self.asked.append(wanted)
        return self.survey_

    def read_one(self, _settings, place):
        if place != self.letter.facts.place:
            raise ConfigError(f"topic has no record {place}")
        return self.letter

    def rehearse(self, _settings, wanted, change, *, again, **_):
        self.asked.append((wanted, change(self.letter), again))
        return self.rehearsal

    def replay(self, _settings, wanted, change, *, again, **_):
        self.sent.append((wanted, change(self.letter), again))
        return Replayed(1, 0, 0)


@pytest.fixture
def topic(monkeypatch):
    made = Topic()
    for name in ("survey", "rehearse", "replay"):
        monkeypatch.setattr(letters, name, getattr(made, name))
    monkeypatch.setattr(letters.letters, "read_one", made.read_one)
    monkeypatch.setattr(letters, "marks", lambda *_: {FACTS.place: Mark("not_known")})
    monkeypatch.setattr(letters, "foretelling", lambda _: None)
    return made


@pytest.fixture
def client(topic):
    return console().test_client()


def get(client, path, status=200):
    answer = client.get(path, **LOCAL)
    assert answer.status_code == status
    return answer.text


def part(client, path):
    """What a page shows once its work is done."""
    deadline = time.monotonic() + 10
    while "every 1s" in (text := get(client, path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return text


def post(client, path, status=303, **form):
    answer = client.post(path, data=form, **LOCAL)
    assert answer.status_code == status, answer.text
    return answer


def rehearsed(client, **form):
    """The name of a rehearsal, once it is done."""
    name = post(client, "/dead-letters/rehearsals", **form).location.split("/")[-1].split("?")[0]
    return name, part(client, f"/parts/dead-letters/replays/{name}")


def test_what_was_rejected_is_listed_and_counted(client):
    assert "/parts/dead-letters?" in get(client, "/dead-letters")
    text = part(client, "/parts/dead-letters")
    assert "3 dead letters" in text
    assert "offset 9,007,199,254,740,993" in text
    assert "replayed</strong>: it stands at partition 1, offset 9 again" in text
    assert "&lt;script&gt;" in text
    assert "<script>alert" not in text


def test_the_filter_is_that_of_the_command(client, topic):
    part(client, "/parts/dead-letters?stage=decode&code=not_json&since=2026-01-31T12:00Z")
    [wanted] = topic.asked
    assert wanted == Filter("decode", "not_json", datetime(2026, 1, 31, 12, tzinfo=UTC))
    text = part(client, "/parts/dead-letters?code=$(rm -rf)")
    assert "embedstream dead-letters list --code &#39;$(rm -rf)&#39;" in text


@pytest.mark.parametrize("query", ["stage=magic", "since=yesterday"])
def test_a_filter_that_means_nothing_is_said_to_beside_the_form(client, query):
    text = get(client, f"/dead-letters?{query}")
    assert 'role="alert"' in text
    assert "hx-get" not in text


def test_what_was_not_looked_at_is_said(client, topic):
    topic.survey_ = SURVEY._replace(looked_at=[Span(0, 10, 18, 0)])
    text = part(client, "/parts/dead-letters")
    assert "3 dead letters among those looked at" in text
    assert "offsets 10 to 18 of partition 0, not at 0 to 10" in text


def test_none_is_good_news_unless_a_filter_is_why(client, topic):
    topic.survey_ = Survey([], Counter(), {}, [WHOLE])
    assert "No message was rejected" in part(client, "/parts/dead-letters")
    assert "None passes the filter" in part(client, "/parts/dead-letters?code=x")


def test_one_is_shown_with_all_that_it_says(client):
    assert "/parts/dead-letters/0:17" in get(client, "/dead-letters/0:17")
    text = part(client, "/parts/dead-letters/0:17")
    assert "/message/a/%3Cb%3E" in text
    assert "embedstream where --at 1:9007199254740993" in text
    assert "00000000  ff 00" in text
    assert "not known whether it was replayed" in text
    assert "{\n  &#34;id&#34;: &#34;a/&lt;b&gt;&#34;,\n  &#34;text&#34;: &#34;hello&#34;\n}</textarea>" in text


def test_a_place_without_a_record_is_said_to_be_one(client):
    assert "has no record 0:5" in part(client, "/parts/dead-letters/0:5")
    assert get(client, "/dead-letters/nowhere", 400)


def test_bytes_are_a_hex_dump_and_not_for_a_form(client, topic):
    topic.letter = DeadLetter(FACTS, None, b"\xff" * 10_000, ())
    text = part(client, "/parts/dead-letters/0:17")
    assert "00000000  ff ff" in text
    assert "The first 8,192 of 10,000 bytes" in text
    assert "<textarea" not in text
    assert "replay 0:17 --edit" in text


def test_hidden_texts_are_hidden_here_too(topic):
    client = console(console_hide_texts=True).test_client()
    text = part(client, "/parts/dead-letters/0:17")
    assert "hello" not in text
    assert "hidden, 29 bytes" in text
    _, shown = rehearsed(client, place="0:17")
    assert "alert" not in shown
    post(client, "/dead-letters/rehearsals", 400, place="0:17", text="{}")


def test_nothing_is_sent_before_it_was_shown(client, topic, caplog):
    name, text = rehearsed(client, what="selected", place="0:17")
    assert "1 would be sent to text-messages" in text
    assert "2 left out: replayed before" in text
    assert "stored as a/&lt;b&gt;" in text
    assert "<script>alert" not in text
    assert topic.sent == []
    with caplog.at_level(logging.INFO):
        post(client, f"/dead-letters/replays/{name}")
        assert "1 sent to text-messages" in part(client, f"/parts/dead-letters/replays/{name}")
    assert topic.sent == [(Filter(places=frozenset({FACTS.place})), VALUE, False)]
    assert "dead letters 0:17" in caplog.text


def test_what_was_shown_is_sent_once(client, topic):
    name, _ = rehearsed(client, place="0:17")
    for _ in range(2):
        post(client, f"/dead-letters/replays/{name}")
    part(client, f"/parts/dead-letters/replays/{name}")
    assert len(topic.sent) == 1


def test_a_filter_sends_what_it_took_when_it_was_shown(client, topic):
    name, text = rehearsed(client, what="filter", code="not_json", again="on")
    assert topic.asked == [(Filter(code="not_json"), VALUE, True)]
    assert "code not_json, also those that were replayed before" in text
    post(client, f"/dead-letters/replays/{name}")
    part(client, f"/parts/dead-letters/replays/{name}")
    assert topic.sent == [(Filter(places=frozenset({FACTS.place})), VALUE, True)]


def test_an_edited_value_is_sent_as_it_was_edited(client, topic):
    name, text = rehearsed(client, place="0:17", text='{"id":\r\n 1}')
    assert "dead letters 0:17, edited" in text
    post(client, f"/dead-letters/replays/{name}")
    part(client, f"/parts/dead-letters/replays/{name}")
    assert [value for _, value, _ in topic.sent] == [b'{"id":\n 1}']


def test_what_a_form_gave_back_unchanged_is_the_original(client, topic):
    rehearsed(client, place="0:17", text='{\r\n  "id": "a/<b>",\r\n  "text": "hello"\r\n}')
    assert topic.asked[0][1] == VALUE


def test_what_means_nothing_is_refused(client):
    post(client, "/dead-letters/rehearsals", 400)
    post(client, "/dead-letters/rehearsals", 400, place="x")
    post(client, "/dead-letters/rehearsals", 400, place=["0:1", "0:2"], text="{}")
    post(client, "/dead-letters/replays/unknown", 409)
    assert "not known any more" in get(client, "/parts/dead-letters/replays/unknown")
    assert client.get("/dead-letters/rehearsals", **LOCAL).status_code == 400


def test_where_nothing_would_be_sent_nothing_can_be(client, topic):
    topic.rehearsal = Rehearsal(Replayed(0, 1, 0), [], frozenset())
    name, text = rehearsed(client, place="0:17")
    assert "<button>" not in text
    post(client, f"/dead-letters/replays/{name}", 409)


def test_who_only_reads_sends_nothing(topic):
    client = console(console_api_key=SecretStr("w"), console_read_key=SecretStr("r")).test_client()
    client.post("/login", data={"key": "r"}, **LOCAL)
    for path in ("/parts/dead-letters", "/parts/dead-letters/0:17"):
        text = part(client, path)
        assert "may only look" in text
        assert "<button" not in text.replace('<button type="button" class="copy', "")
    for path in ("/dead-letters/rehearsals", "/dead-letters/replays/x"):
        post(client, path, 403, place="0:17")


def test_a_form_of_another_site_sends_nothing(client):
    answer = client.post(
        "/dead-letters/rehearsals", data={"place": "0:17"}, headers={"Sec-Fetch-Site": "cross-site"}, **LOCAL
    )
    assert answer.status_code == 403
