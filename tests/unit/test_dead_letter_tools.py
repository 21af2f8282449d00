import json
from datetime import UTC, datetime

import pytest

from embedstream import kafka
from embedstream.dead_letters import edit, listing, rehearsal, repeats, show
from embedstream.dead_letters.letter import DeadLetter, Facts, Filter, Place, newest, of_record, parse_since
from embedstream.dead_letters.listing import Mark
from embedstream.dead_letters.replay import _is_ours, outgoing
from embedstream.display import silently
from embedstream.errors import ConfigError
from embedstream.settings import load_settings

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Record:
    def __init__(self, headers, key=None, value=b"{}"):
        self._headers, self._key, self._value = headers, key, value

    def headers(self):
        return self._headers

    def key(self):
        return self._key

    def value(self):
        return self._value

    def partition(self):
        return 0

    def offset(self):
        return 7

    def timestamp(self):
        return 1, 1_764_000_000_000


def headers(**facts):
    said = {
        "topic": "in", "partition": "2", "offset": "41", "timestamp": "2025-11-24T16:00:00.123Z", "stage": "decode",
        "error": "not_json", "reason": "no", "at": "2026-01-31T10:00:00.000Z",
    } | facts  # fmt: skip
    return [(f"dlq.{name}", text.encode()) for name, text in said.items()]


def letter(key=None, value=b"{}", own=(), **facts):
    return of_record(Record([*own, *headers(**facts)], key, value))


def test_what_the_headers_say():
    facts = letter(attempts="3", replayed="2-40").facts
    assert (facts.place, facts.origin, facts.replayed) == (Place(0, 7), Place(2, 41), Place(2, 40))
    assert (facts.stage, facts.code, facts.attempts, facts.timestamp) == ("decode", "not_json", 3, 1_764_000_000_123)
    assert facts.at == datetime(2026, 1, 31, 10, tzinfo=UTC)


def test_a_foreign_record_is_no_dead_letter():
    facts = of_record(Record([("dlq.offset", b"\xff"), ("dlq.stage", b"\x1b[2J"), ("dlq.at", None)])).facts
    assert (facts.origin, facts.stage, facts.attempts) == (None, "\N{REPLACEMENT CHARACTER}[2J", 1)
    assert facts.at.year == 2025


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", datetime(2026, 1, 31, 11, 58, 30, tzinfo=UTC)), ("2h", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("1w", datetime(2026, 1, 24, 12, tzinfo=UTC)), ("2026-01-30T00:00Z", datetime(2026, 1, 30, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_since(text, moment):
    assert parse_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "2x", "yesterday", "-2h", "999999999w"])
def test_bad_since(text):
    with pytest.raises(ConfigError, match="--since"):
        parse_since(text, NOW)


@pytest.mark.parametrize("text", ["", "1", "1:", "a:1", "1:2:3", "-1:2", "٣:1"])
def test_bad_places(text):
    with pytest.raises(ConfigError, match="PARTITION:OFFSET"):
        Place.parse(text)


def test_filters():
    facts = letter().facts
    assert Filter().takes(facts)
    assert Filter("decode", "not_json", datetime(2026, 1, 31, 10, tzinfo=UTC), frozenset({Place(0, 7)})).takes(facts)
    for other in (
        Filter("embed"), Filter(code="x"), Filter(since=NOW), Filter(places=frozenset({Place(0, 8)})),
    ):  # fmt: skip
        assert not other.takes(facts)


def test_the_newest_come_last():
    moments = [f"2026-01-31T10:00:{second:02}.000Z" for second in (5, 1, 9, 3, 7, 2)]
    found = newest((letter(at=moment).facts for moment in moments), 2)
    assert [facts.at.second for facts in found] == [7, 9]


def test_what_is_sent_again():
    record = outgoing(letter(b"k", b"\xff", [("trace", b"1"), ("none", None)], attempts="2", replayed="2-1"), b"\xff")
    assert record == (
        b"\xff", b"k", [("trace", b"1"), ("none", None), ("dlq.attempts", "2"), ("dlq.replayed", "2-41")],
        1_764_000_000_123, 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "sent"),
    [
        (None, b'{"text": ""}', b"in-2-41"), (None, b'{"id": null}', b"in-2-41"), (None, b"\xff", b"in-2-41"),
        (None, b'{"id": "x"}', None), (b"k", b"{}", b"k"), (None, None, None),
        (b"", b"{}", b"in-2-41"), (b"", b'{"id": "x"}', b""), (b"", None, b""),
    ],
)  # fmt: skip
def test_a_message_keeps_its_identity(key, value, sent):
    assert outgoing(letter(key, value), value).key == sent


def test_a_record_without_a_timestamp_is_sent_without():
    assert outgoing(letter(timestamp="1969-12-31T23:59:59.999Z"), b"").timestamp is None


def test_fields_are_set():
    fields = edit.parse_fields(["text=new=er", "n=1", "metadata.kind=a", "source=null"])
    changed = json.loads(edit.with_fields(b'{"text": "old", "metadata": {"x": 1}}', fields))
    assert changed == {"text": "new=er", "n": 1, "metadata": {"x": 1, "kind": "a"}, "source": None}
    assert json.loads(edit.with_fields(b'{"metadata": 1}', {"metadata.a": 2})) == {"metadata": {"a": 2}}


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[1]", b"{", b"[" * 100_000])
def test_what_has_no_fields_is_refused(value):
    with pytest.raises(ConfigError, match="no JSON object"):
        edit.with_fields(value, {"a": 1})


@pytest.mark.parametrize("assignment", ["", "x", "=1"])
def test_bad_assignments(assignment):
    with pytest.raises(ConfigError, match="write field=value"):
        edit.parse_fields([assignment])


@pytest.mark.parametrize(("value", "after"), [(b"old", b"new"), (b"old\n", b"new\n"), (b"other", None)])
def test_an_editor_changes_the_payload(value, after, monkeypatch):
    monkeypatch.setenv("VISUAL", "sed -i -e s/old/new/ -e '$a\\'")
    assert edit.edited(value) == after


@pytest.mark.parametrize(
    ("editor", "value"), [("false", b"x"), ("/no/such", b"x"), ("'", b"x"), ("true", b"\xff"), ("true", None)]
)
def test_what_cannot_be_edited(editor, value, monkeypatch):
    monkeypatch.setenv("VISUAL", editor)
    with pytest.raises(ConfigError, match="--edit"):
        edit.edited(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"), (b"plain", "plain"), ('{"a":"\u00e9"}'.encode(), '{\n  "a": "\u00e9"\n}'), (b"1", "1"),
        (b"\x1b[2J", "00000000  1b 5b 32 4a                                      .[2J"),
        (b"\xff" * 17, "00000000  " + "ff " * 16 + " " + "." * 16 + "\n00000010  ff" + " " * 47 + "."),
        (b'{"a":"\\u009b"}', '{\n  "a": "\\u009b"\n}'), (b'"\\ud800"', '"\\ud800"'), (b"", ""),
    ],
)  # fmt: skip
def test_payloads_are_readable(value, shown):
    assert show.readable(value) == shown


def test_as_json_bytes_are_base64():
    record = show.as_record(letter(b"\xff", None, [("h", b"\xfe")]))
    assert (record["key_base64"], record["value"], record["headers"][0]) == (
        "/w==",
        None,
        {"name": "h", "value_base64": "/g=="},
    )
    assert record["origin"] == {"topic": "in", "partition": 2, "offset": 41, "timestamp": 1_764_000_000_123}
    assert isinstance(letter(), DeadLetter)
    assert isinstance(letter().facts, Facts)


def test_a_value_that_was_left_out_is_no_delete():
    mutilated = letter(value=None, omitted="value")
    assert mutilated.facts.omitted == "value"
    assert "value (left out, as it is too large for a dead letter)" in show.as_text(mutilated)
    settings = load_settings(kafka_input_topic="in")
    with pytest.raises(ConfigError, match="lacks its value"):
        _is_ours(settings, mutilated.facts, named=True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"a":1}', '{\n  "a": 1\n}'), (b'{"a": "\xc3\xa4"}\n', '{\n  "a": "\xe4"\n}'),
        (b'{"a": "\\u202e"}', '{\n  "a": "\\u202e"\n}'), (b'{"n": 1.10}', '{"n": 1.10}'),
        (b'{"n": 9007199254740993}', '{\n  "n": 9007199254740993\n}'), (b'{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
        (b'{"broken', '{"broken'), (b"", ""), (None, None), (b"\xff", None), (b"a\r\nb", None), (b"\x1b[2J", None),
        ("\u202e".encode(), None), (b"[" * 100_000, "[" * 100_000),
    ],
)  # fmt: skip
def test_a_form_shows_what_it_can_give_back(value, shown):
    assert edit.editable(value) == shown
    if shown is not None:
        assert edit.from_form(value, shown.replace("\n", "\r\n")) == value


def test_what_a_form_changed_is_as_it_was_typed():
    assert edit.from_form(b'{"a":1}', '{"a":\r\n2}') == b'{"a":\n2}'


def test_the_newest_of_each_partition_are_looked_at():
    extent = {0: (10, 20), 1: (5, 8), 2: (0, 0)}
    assert kafka.newest(extent, 100) == extent
    assert kafka.newest(extent, 8) == {0: (15, 20), 1: (5, 8), 2: (0, 0)}
    assert kafka.length(kafka.newest(extent, 8)) == 8


@pytest.mark.parametrize(
    ("extent", "again", "sent_again", "mark"),
    [
        ({2: (0, 100)}, {}, set(), Mark("not_replayed")),
        ({2: (0, 100)}, {Place(2, 41): Place(2, 77)}, set(), Mark("replayed", Place(2, 77))),
        ({2: (0, 100)}, {}, {Place(2, 41)}, Mark("replayed")),
        ({2: (0, 1000)}, {}, set(), Mark("not_known")),
        ({2: (50, 100)}, {}, set(), Mark("not_known")),
        ({0: (0, 100)}, {}, set(), Mark("not_known")),
    ],
)
def test_a_mark_says_no_more_than_was_looked_at(monkeypatch, extent, again, sent_again, mark):
    monkeypatch.setattr(repeats.kafka, "extent", lambda *_: extent)
    monkeypatch.setattr(listing, "repeats", lambda *_: again)
    settings = load_settings(kafka_input_topic="in")
    assert listing.marks(settings, [letter().facts], sent_again, 100, silently) == {Place(0, 7): mark}
    assert listing.marks(settings, [letter(topic="other").facts], set(), 100, silently) == {}


def test_a_rehearsal_tells_what_decoding_would_make_of_it(monkeypatch):
    monkeypatch.setattr(rehearsal, "_models", lambda _: (None,))
    tell = rehearsal.foretelling(load_settings())
    for value, becomes in (
        (b'{"id": "a", "text": "b"}', "stored as a"), (None, "deletes k"), (b"{", "rejected again: not_json"),
    ):  # fmt: skip
        assert tell(outgoing(letter(b"k", value), value))["becomes"].startswith(becomes)
