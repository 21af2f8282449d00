"""What a pipeline's file makes of records: fields by expressions, items, order, deletes, and what is refused."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode import default
from embedstream.decode.decoder import build
from embedstream.decode.expressions import ExpressionError
from embedstream.decode.message import Delete, Message, Rules
from embedstream.decode.plan import ids_need_value
from embedstream.decode.spec import Decoding
from embedstream.errors import Rejected
from support.recorded import NOW_MS, RULES, attempt, decoder, read_json, record

EPOCH = datetime.fromtimestamp(0, UTC)
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
JSON_KEY = {"key": "json", "value": "json"}


def one(value, key=None, *, headers=None, rules=RULES, **decoding):
    (item,) = decoder(rules, **decoding)(record(value, key, headers))
    return item


def refused(value, key=None, **decoding):
    with pytest.raises(Rejected) as rejection:
        decoder(**decoding)(record(value, key))
    assert rejection.value.stage == "decode"
    assert "\n" not in rejection.value.reason
    return rejection.value


def test_all_fields_by_expressions():
    message = one(
        {"ticket": {"id": 7}, "comment": {"id": "c"}, "subject": "s", "html": "<p>a<p>b", "at": 1764240000, "n": [1]},
        headers={"origin": "web"},
        id=("value.ticket.id", "value.comment.id"),
        text={"from": ("value.subject", "value.html"), "as": "html"},
        timestamp={"from": "value.at", "unit": "s"},
        version="record",
        source="headers.origin",
        metadata={"n": "value.n", "first": "value.n[0]", "topic": "record.topic", "absent": "value.absent"},
    )
    assert (message.id, message.text, message.source) == ("7:c", "s\n\na\nb", "web")
    assert (message.timestamp.timestamp(), message.timed) == (1764240000, True)
    assert message.version == (EPOCH, "t", 2, 7, 0)
    assert json.loads(message.metadata) == {"n": [1], "first": 1, "topic": "t"}


def test_the_default_goes_its_own_way():
    spec = Decoding()
    decode = build(spec, RULES, None, None)
    given = record({"id": "a", "text": "x"})
    assert list(decode(given)) == [default.decode(given, RULES)]


WHOLE = {
    "id": 1.5, "text": "x\0", "timestamp": "2026-01-02T03:04:05Z", "metadata": {"a": None}, "source": "w", "model": "m",
}  # fmt: skip


@pytest.mark.parametrize("without", [(), *((name,) for name in WHOLE if name != "text")])
@pytest.mark.parametrize("key", [None, "k"])
def test_what_is_left_out_is_as_in_the_default_shape(without, key):
    given = record({name: value for name, value in WHOLE.items() if name not in without}, key)
    (item,) = decoder(where="`true`")(given)
    assert item == default.decode(given, RULES)


@pytest.mark.parametrize(
    "value", [{"id": "a"}, {"text": 1}, {"text": "x", "model": "other"}, {"text": "x", "metadata": 1}, [], "x", None]
)
def test_and_so_is_what_is_refused(value):
    rules = Rules("m", 100)
    given = record(json.dumps(value).encode())
    with pytest.raises(Rejected) as expected:
        default.decode(given, rules)
    with pytest.raises(Rejected) as found:
        decoder(rules, where="`true`")(given)
    assert (found.value.code, found.value.reason) == (expected.value.code, expected.value.reason)


def test_a_mapped_text_has_no_model_to_check():
    assert one({"body": "x", "model": "Golf"}, rules=Rules("m", 100), text="value.body").text == "x"


@pytest.mark.parametrize(
    ("id", "value", "expected"),
    [
        ("value.a", {"a": 7}, "7"),
        ("value.a", {"a": -12345678901234567890123}, "-12345678901234567890123"),
        ("value.a", {"a": 2.0}, "2"),
        (("value.a", "value.b"), {"a": "x", "b": 0}, "x:0"),
        ("key", {}, "k"),
        (("record.topic", "record.offset"), {}, "t:7"),
        ("value.a || key", {}, "k"),
        ("headers.h", {}, "é"),
    ],
)
def test_ids(id, value, expected):
    assert one(value, "k", headers={"h": "é"}, id=id, text="'x'").id == expected


@pytest.mark.parametrize(
    ("id", "value", "code", "reason"),
    [
        ("value.a", {}, "id_missing", "id: value.a gives null"),
        (("value.a", "value.b"), {"a": 1}, "id_missing", "id: value.b gives null"),
        ("value.a", {"a": 1.5}, "bad_id", "fraction"),
        ("value.a", {"a": 1e300}, "bad_id", "exact"),
        ("value.a", {"a": True}, "mapping_type", "id: value.a gives true or false, not a string or a number"),
        ("value.a", {"a": {}}, "mapping_type", "an object"),
        ("value.a", {"a": ""}, "bad_id", "empty"),
        ("value.a", {"a": "x" * 513}, "bad_id", "512"),
        ("value.a", {"a": "\0"}, "bad_id", "cannot store"),
        ("value.a", {"a": "\ud800"}, "bad_id", "cannot store"),
    ],
)
def test_ids_that_are_refused(id, value, code, reason):
    found = refused(value, id=id, text="'x'")
    assert found.code == code
    assert reason in found.reason


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("value.a", {"a": " x "}, " x "),
        (("value.a", "value.b", "value.c"), {"a": "x", "b": None, "c": "y"}, "x\n\ny"),
        (("value.a", "value.b"), {"a": " \u200b", "b": "y"}, "y"),
        (("value.a", "value.b"), {"a": "é", "b": "y"}, "é\n\ny"),
        (("value.a",), {"a": "x"}, "x"),
        ({"from": ("value.a", "value.b"), "as": "html"}, {"a": "<p> ", "b": "<i>y</i>"}, "y"),
        (("value.a", "from_html(value.b)"), {"a": "a < b", "b": "<p>y"}, "a < b\n\ny"),
        ("join(' ', value.a[?@])", {"a": ["x", None, "y"]}, "x y"),
    ],
)
def test_texts(text, value, expected):
    assert one(value, "k", text=text).text == expected


@pytest.mark.parametrize(
    ("text", "value", "code", "reason"),
    [
        ("value.body", {"body": 5}, "mapping_type", "text: value.body gives a number, not a string"),
        ("value.body", {"body": ["x"]}, "mapping_type", "a list"),
        ("value.body", {}, "text_missing", "text: value.body gives null"),
        (("value.a", "value.b"), {}, "text_missing", "value.a, value.b all give null"),
        (("value.a", "value.b"), {"a": "x", "b": 1}, "mapping_type", "value.b gives a number"),
        ("value.body", {"body": " \n"}, "text_blank", "white space"),
        (("value.a", "value.b"), {"a": " "}, "text_blank", "white space"),
        ({"from": "value.body", "as": "html"}, {"body": "<p>"}, "text_blank", "white space"),
        ({"from": "value.body", "as": "html"}, {"body": {}}, "mapping_type", "an object"),
        ("value.body", {"body": "x" * 100_001}, "text_too_large", "100001 bytes"),
        ("join('', value.a)", {"a": [1]}, "mapping_failed", "text: join('', value.a): join() takes array-string"),
        ("from_json(value.a).b", {"a": "{"}, "mapping_failed", "not JSON"),
    ],
)
def test_texts_that_are_refused(text, value, code, reason):
    found = refused(value, "k", text=text)
    assert found.code == code
    assert reason in found.reason


def test_html_of_five_megabytes():
    body = "<div class=x><p>" * 300_000 + "the end"
    message = one({"html": body}, "k", rules=Rules(None, 2**20), text={"from": "value.html", "as": "html"})
    assert message.text == "the end"


def test_a_value_beyond_all_measure():
    assert refused(b" " * (RULES.max_value_bytes + 1), "k", text="value.a").code == "record_too_large"


def test_what_postgresql_cannot_store_is_replaced_and_noted():
    value = {"a": "x\0", "s": "\ud800", "m": {"\0": ["\udfff", 1.5, None]}}
    message = one(value, "k", text="value.a", source="value.s", metadata={"m": "value.m"})
    assert (message.text, message.source) == ("x\ufffd", "\ufffd")
    assert json.loads(message.metadata) == {"m": {"\ufffd": ["\ufffd", 1.5, None]}, "sanitized": True}
    clean = one({"a": "é", "n": "\\u0000"}, "k", text="value.a", metadata="*")
    assert json.loads(clean.metadata) == {"a": "é", "n": "\\u0000"}


def test_a_colon_within_a_part_of_an_id_is_not_told_from_one_between_two():
    """Ids of tables that are there must not change."""
    ids = {
        one(value, "k", id=("value.a", "value.b"), text="'x'").id
        for value in ({"a": "a:b", "b": "c"}, {"a": "a", "b": "b:c"})
    }
    assert ids == {"a:b:c"}


@pytest.mark.parametrize("character", ["\0", "\udfff"], ids=["NUL", "surrogate"])
@pytest.mark.parametrize("text", [{"from": "value.a", "as": "html"}, "from_html(value.a)"], ids=["as", "function"])
def test_what_is_replaced_in_html_is_noted_where_it_is_seen(text, character):
    message = one({"a": f"<p>x{character}<p>y"}, "k", text=text)
    assert (message.text, json.loads(message.metadata)) == ("x\ufffd\ny", {"sanitized": True})
    parts = {"from": ("value.b", "value.a"), "as": "html"}
    assert one({"a": character, "b": "x"}, "k", text=parts).text == "x\n\n\ufffd"
    for html in (f"<p title='{character}'>x", f"x<!--{character}-->", "x\ufffd"):
        assert json.loads(one({"a": html}, "k", text=text).metadata) == {}


def test_metadata():
    value = {"a": "x", "n": 12345678901234567890123, "f": 0.1, "z": None}
    assert json.loads(one(value, "k", text="value.a", metadata="*").metadata) == value
    assert one(value, "k", text="value.a", metadata={}).metadata == "{}"
    assert one({**value, "metadata": {"b": 1}}, "k", text="value.a").metadata == '{"b":1}'
    assert refused(b'"x"', "k", text="value", metadata="*").code == "mapping_type"
    assert refused(b'{"n": 1e999}', "k", text="'x'", metadata={"n": "value.n"}).code == "bad_metadata"


def test_source_is_a_string():
    found = refused({"a": "x", "s": 1}, "k", text="value.a", source="value.s")
    assert (found.code, found.reason) == ("mapping_type", "source: value.s gives a number, not a string")


MOMENT = datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)
US = 1767323045123456


@pytest.mark.parametrize(
    ("said", "how", "expected"),
    [
        (US, {"unit": "us"}, MOMENT),
        (str(US), {"unit": "us"}, MOMENT),
        (US * 1000, {"unit": "ns"}, MOMENT),
        (f"{US}789", {"unit": "ns"}, MOMENT),
        (US // 1000, {"unit": "ms"}, MOMENT.replace(microsecond=123000)),
        (1767323045, {"unit": "s"}, MOMENT.replace(microsecond=0)),
        (1767323045.123456, {"unit": "s"}, MOMENT),
        ("1767323045.123456", {"unit": "s"}, MOMENT),
        (0, {"unit": "ms"}, EPOCH),
        (-1, {"unit": "days"}, EPOCH - timedelta(days=1)),
        (20455, {"unit": "days"}, datetime(2026, 1, 2, tzinfo=UTC)),
        (US, {}, MOMENT),
        (US * 1000, {}, MOMENT),
        (1767323045, {}, MOMENT.replace(microsecond=0)),
        ("2026-01-02T03:04:05.123456Z", {}, MOMENT),
        ("2026-01-02T03:04:05.123456Z", {"unit": "us"}, MOMENT),
        ("2026-01-02T04:04:05.123456+01:00", {"unit": "iso", "zone": "America/New_York"}, MOMENT),
        ("2026-01-02 04:04:05.123456", {"zone": "Europe/Berlin"}, MOMENT),
        ("2026-07-02T03:04:05", {"zone": "Europe/Berlin"}, datetime(2026, 7, 2, 1, 4, 5, tzinfo=UTC)),
        ("2026-10-25T02:30:00", {"zone": "Europe/Berlin"}, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-01-02Z", {}, datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02", {"zone": "UTC"}, datetime(2026, 1, 2, tzinfo=UTC)),
        ("0000-00-00 00:00:00", {}, NOW),
        ("0000-00-00", {"unit": "iso"}, NOW),
        (None, {"unit": "us"}, NOW),
    ],
)
def test_moments(said, how, expected):
    for source in [{"from": "value.at", **how}] + ([] if how else ["value.at"]):
        message = one({"at": said}, "k", text="'x'", timestamp=source)
        assert message.timestamp == expected


@pytest.mark.parametrize(
    ("said", "how", "code"),
    [
        ("2026-01-02T03:04:05", {}, "bad_timestamp"),
        ("yesterday", {"zone": "UTC"}, "bad_timestamp"),
        (1767323045, {"unit": "iso"}, "bad_timestamp"),
        ("17673230451", {}, "bad_timestamp"),
        (10**30, {"unit": "s"}, "bad_timestamp"),
        (1e300, {"unit": "days"}, "bad_timestamp"),
        ("9" * 30, {"unit": "s"}, "bad_timestamp"),
        ("0001-01-01T00:00:00", {"zone": "Asia/Tokyo"}, "bad_timestamp"),
        ("0000-01-00", {}, "bad_timestamp"),
        (True, {"unit": "s"}, "mapping_type"),
        ([], {}, "mapping_type"),
    ],
)
def test_moments_that_are_refused(said, how, code):
    assert refused({"at": said}, "k", text="'x'", timestamp={"from": "value.at", **how}).code == code


def test_order_by_time_record_and_a_number():
    value = {"at": 1764240000, "n": 5}
    mapped = {"text": "'x'", "timestamp": "value.at"}
    assert one(value, "k", **mapped).version.event_time.timestamp() == 1764240000
    by_record = Rules(None, 100, "record")
    assert one(value, "k", rules=by_record, **mapped).version.event_time == EPOCH
    assert one(value, "k", rules=by_record, version="time", **mapped).version.event_time.timestamp() == 1764240000
    assert one(value, "k", version="record", **mapped).version.event_time == EPOCH
    found = one(value, "k", version="value.n", **mapped)
    assert (found.version.event_time, found.timestamp.timestamp()) == (EPOCH + timedelta(microseconds=5), 1764240000)


@pytest.mark.parametrize("number", [0, 2.0, 253402300799999999])
def test_versions_that_are_numbers(number):
    found = one({"n": number}, "k", text="'x'", version="value.n").version.event_time
    assert (found - EPOCH) // timedelta(microseconds=1) == number


@pytest.mark.parametrize("number", [-1, 1.5, 253402300799999999 + 1, None, "5", True, 1e300])
def test_versions_that_are_refused(number):
    found = refused({"n": number}, "k", text="'x'", version="value.n")
    assert found.code == "bad_version"
    assert found.reason.startswith("version: value.n gives ")


def test_a_fast_clock_gives_no_version_from_the_future():
    later = (NOW_MS + 10**9) / 1000
    found = one({"at": later}, "k", text="'x'", timestamp="value.at")
    assert (found.version.event_time, found.timestamp.timestamp()) == (NOW, later)


def test_where_filters():
    decode = decoder(where="value.lang == 'en'", text="value.text")
    assert [len(decode(record({"lang": lang, "text": "x"}, "k"))) for lang in ("en", "de", None)] == [1, 0, 0]


def test_a_condition_that_is_no_condition_is_rejected():
    found = refused({"deleted": "false"}, "k", text="'x'", delete="value.deleted")
    assert (found.code, found.reason) == ("mapping_type", "delete: value.deleted gives a string, not true or false")
    assert refused({}, "k", text="'x'", where="value").reason.startswith("where: value gives an object")


def test_delete_needs_no_text():
    item = one({"gone": True, "id": 4, "at": 1764240000}, id="value.id", text="value.text", delete="value.gone",
               timestamp="value.at")  # fmt: skip
    assert isinstance(item, Delete)
    assert (item.id, item.version.event_time.timestamp()) == ("4", 1764240000)


@pytest.mark.parametrize(
    ("decoding", "key", "expected"),
    [
        ({"text": "value.a"}, "k", "k"),
        ({"text": "value.a", "format": JSON_KEY}, 5, "5"),
        ({"text": "value.a", "format": JSON_KEY}, {"id": 5}, "bad_id"),
        ({"text": "value.a", "format": JSON_KEY, "id": "key.id"}, {"id": 5}, "5"),
        ({"text": "value.a", "id": ("record.topic", "key")}, "k", "t:k"),
        ({"text": "value.a", "id": "value.id"}, "k", "delete_without_key"),
        ({"text": "value.a", "id": "value.id || key"}, "k", "delete_without_key"),
        ({"text": "value.a"}, None, "delete_without_key"),
        ({"text": "value.a"}, "", "delete_without_key"),
        ({"text": "item.a", "each": "value"}, "k", "delete_without_key"),
        ({"text": "item.a", "each": "value", "id": "key"}, "k", "k"),
        ({"text": "value.a", "envelope": "debezium"}, {"id": 1, "lang": "en"}, "1:en"),
        ({"text": "value.a", "envelope": "debezium"}, None, "delete_without_key"),
        ({"text": "value.a", "envelope": "debezium", "id": "value.id"}, {"id": 1, "lang": "en"}, "1"),
        ({"text": "value.a", "envelope": "debezium", "id": "value.slug"}, {"id": 1}, "delete_without_key"),
        ({"text": "value.a", "envelope": "debezium", "id": "to_string(value.id)"}, {"id": 1}, "delete_without_key"),
        ({"text": "value.a", "envelope": "debezium", "id": "event.source.lsn"}, {"id": 1}, "delete_without_key"),
        ({"text": "value.a", "envelope": "maxwell"}, {"database": "d", "table": "t", "pk.id": 3}, "3"),
    ],
)
def test_a_record_without_value_deletes_what_its_key_tells(decoding, key, expected):
    found = attempt(decoder(**decoding), record(None, key))
    if isinstance(found, Rejected):
        assert found.code == expected
    else:
        assert list(found) == [Delete(expected, found[0].version)]


@pytest.mark.parametrize(
    ("decoding", "texts"),
    [
        ({}, []),
        ({"id": "key.id"}, []),
        ({"id": ("key.id", "value.id", "record.topic")}, ["value.id"]),
        ({"envelope": "debezium", "id": ("value.id", "value.a || value.b")}, ["value.a || value.b"]),
        ({"each": "value.items", "id": "item.id"}, ["item.id"]),
    ],
)
def test_ids_that_need_a_value_can_be_told_beforehand(decoding, texts):
    assert ids_need_value(Decoding(text="value.text", **decoding)) == texts


@pytest.mark.parametrize(
    ("where", "deleted", "buried"),
    [
        ("value.lang == 'en'", 1, 1),
        ("event.source.table == 'b'", 0, 1),
        ("event.source.table == 'a' && value.lang == 'en'", 1, 1),
        ("event.source.table == 'b' && value.lang == 'en'", 0, 1),
        ("key.id == `1`", 1, 1),
        ("key.id == `2` && value.lang == 'en'", 0, 0),
    ],
)
def test_where_asks_a_delete_only_what_it_tells(where, deleted, buried):
    """A delete has the key of its row, and not the row that a condition would want."""
    decode = decoder(envelope="debezium", text="value.a", where=where)
    event = {"op": "d", "before": {"id": 1, "lang": None}, "after": None, "source": {"table": "a"}}
    assert len(decode(record(event, {"id": 1}))) == deleted
    assert len(decode(record(None, {"id": 1}))) == buried


def test_an_id_that_changes_with_its_row_leaves_nothing_behind():
    decode = decoder(envelope="debezium", id="value.slug", text="value.a")
    event = {"op": "u", "before": {"slug": "old", "a": "x"}, "after": {"slug": "new", "a": "x"}, "source": {}}
    moved = decode(record(event, {"id": 1}))
    assert [(type(item), item.id) for item in moved] == [(Delete, "old"), (Message, "new")]
    event["before"] = {"slug": None}
    assert [item.id for item in decode(record(event, {"id": 1}))] == ["new"]


OTLP = {
    "resourceLogs": [
        {"scopeLogs": [{"logRecords": [
            {"timeUnixNano": "1764240000123456789", "body": {"stringValue": "one"}},
            {"timeUnixNano": "1764240000223456789", "body": {"stringValue": "two"}},
        ]}]},
        {"scopeLogs": [{"logRecords": [{"timeUnixNano": "1764240000323456789", "body": {"stringValue": "three"}}]}]},
    ]
}  # fmt: skip
LOGS = {
    "each": "value.resourceLogs[].scopeLogs[].logRecords[]",
    "text": "item.body.stringValue",
    "timestamp": {"from": "item.timeUnixNano", "unit": "ns"},
}


def test_each_item_is_a_message():
    items = decoder(**LOGS)(record(OTLP, "k"))
    assert [(item.id, item.text, item.version.item) for item in items] == [
        ("t-2-7-0", "one", 0), ("t-2-7-1", "two", 1), ("t-2-7-2", "three", 2),
    ]  # fmt: skip
    assert items[0].timestamp == datetime.fromtimestamp(1764240000, UTC) + timedelta(microseconds=123456)


def test_items_of_the_default_shape():
    items = decoder(each="value", where="item.keep")(
        record([{"id": 1, "text": "a", "keep": True}, {"text": "b"}, {"id": 1, "text": "c", "keep": True}], "k")
    )
    assert [(item.id, item.text, item.version.item) for item in items] == [("1", "a", 0), ("1", "c", 2)]


@pytest.mark.parametrize(("value", "what"), [({}, "null"), ({"items": {}}, "an object"), ({"items": "x"}, "a string")])
def test_each_wants_a_list(value, what):
    found = refused(value, "k", each="value.items", text="item.text")
    assert (found.code, found.reason) == ("each_not_a_list", f"each: value.items gives {what}, not a list")


def test_an_empty_list_has_no_messages():
    assert list(decoder(each="value.items", text="item.text")(record({"items": []}, "k"))) == []


def test_one_item_that_is_wrong_rejects_the_record():
    found = refused({"items": [{"t": "x"}, {"t": 1}]}, "k", each="value.items", text="item.t")
    assert (found.code, found.reason) == ("mapping_type", "item 1: text: item.t gives a number, not a string")


def test_items_can_be_deletes():
    items = decoder(each="value", id="item.id", text="item.t", delete="item.gone")(
        record([{"id": "a", "t": "x"}, {"id": "b", "gone": True}], "k")
    )
    assert [(type(item), item.version.item) for item in items] == [(Message, 0), (Delete, 1)]


def test_plain_text():
    as_text = {"key": "text", "value": "text"}
    assert one(b"line\n", "k", format=as_text) == one({"text": "line\n"}, "k")
    assert one(b"line", None, format=as_text).id == "t-2-7"
    assert refused(b"", "k", format=as_text).code == "text_blank"
    assert one(b'"line"', "k", text="value").text == "line"


def test_a_key_of_another_format_is_the_id():
    assert one({"text": "x"}, 42, format=JSON_KEY).id == "42"
    assert one({"text": "x"}, b'"a"', format=JSON_KEY).id == "a"
    assert refused({"text": "x"}, {"id": 1}, format=JSON_KEY).code == "bad_id"
    assert one({"text": "x", "id": "v"}, {"id": 1}, format=JSON_KEY, where="`true`").id == "v"


def test_a_header_that_is_no_text_is_refused():
    given = record({"text": "x"})._replace(headers={"h": b"\xff"})
    with pytest.raises(Rejected, match="the header h is not UTF-8"):
        decoder(source="headers.h")(given)


def test_a_reader_that_wants_a_header_gets_it():
    class Framed:
        header = "__value_schema_id"

        def __call__(self, data, identified):
            return {"text": f"{data.decode()} {identified.decode()}"}

    decode = build(Decoding(format="registry"), RULES, bytes.decode, Framed())
    (message,) = decode(record(b"x", "k", {"__value_schema_id": "9"}))
    assert message.text == "x 9"


@pytest.mark.parametrize("depth", [500, 900, 2_000, 100_000])
@pytest.mark.parametrize(
    "fields",
    [{"text": "to_string(value)"}, {"metadata": {"v": "value"}, "text": "'x'"}, {"text": "'x'", "source": "value[]"}],
)
def test_json_that_nests_too_deep_is_rejected(depth, fields):
    found = attempt(decoder(**fields), record(b"[" * depth + b"]" * depth, "k"))
    if isinstance(found, Rejected):
        assert found.code in {"mapping_failed", "bad_metadata", "mapping_type", "not_json"}
    else:
        assert depth < 1_000


@pytest.mark.parametrize(
    ("decoding", "path", "column"),
    [
        ({"text": "value.a b"}, ("text",), 9),
        ({"text": ("value.a", "vlaue.b")}, ("text", 1), 1),
        ({"text": {"from": "value.a =", "as": "html"}}, ("text", "from"), 9),
        ({"text": {"from": ("value.a", "x"), "as": "html"}}, ("text", "from", 1), 1),
        ({"id": ("key.id", "nothing(key)")}, ("id", 1), 1),
        ({"metadata": {"lang": "lang"}}, ("metadata", "lang"), 1),
        ({"timestamp": "at"}, ("timestamp",), 1),
        ({"timestamp": {"from": "at"}}, ("timestamp", "from"), 1),
        ({"timestamp": {"from": "value.at", "zone": "Mars/Base"}}, ("timestamp", "zone"), 1),
        ({"timestamp": {"from": "value.at", "zone": "../etc"}}, ("timestamp", "zone"), 1),
        ({"where": "event.op == d"}, ("where",), 13),
        ({"delete": "item.gone"}, ("delete",), 1),
        ({"each": "item.list"}, ("each",), 1),
        ({"each": "value.items", "text": "itm.text"}, ("text",), 1),
        ({"version": "recrod"}, ("version",), 1),
        ({"source": "headers"}, ("source",), 1),
        ({"envelope": "debezium"}, ("text",), 1),
        ({"envelope": "cloudevents", "each": "value", "text": "item.a"}, ("id",), 1),
    ],
)
def test_what_cannot_mean_anything_is_refused_with_its_place(decoding, path, column):
    with pytest.raises(ExpressionError) as refusal:
        build(Decoding(**decoding), RULES, read_json, read_json)
    assert (refusal.value.path, refusal.value.column) == (path, column)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda node: (
        st.lists(node, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "id", "text", "items", "timestamp", "metadata", "source"]), node)
    ),
    max_leaves=12,
)
PIPELINES = [
    {"where": "`true`"},
    {"id": "value.a", "text": "value.b"},
    {"text": ("value.a", "value.b", "value.text"), "metadata": "*", "timestamp": "value.timestamp"},
    {"each": "value.items", "text": "item.text || item", "id": ("key", "item.id"), "version": "item.a"},
    {"each": "value", "where": "item.a", "delete": "item.b", "metadata": {"a": "item", "k": "key.a"}},
    {"text": {"from": "value.text", "as": "html"}, "timestamp": {"from": "value.a", "unit": "us", "zone": "UTC"}},
    {"text": "to_string(value)", "metadata": {"a": "value.items[*].a", "b": "value"}, "source": "value.source"},
    {"text": "from_json(value.text).a", "version": "length(value)", "format": JSON_KEY},
    {"envelope": "unwrap", "text": "value.text", "metadata": "*", "format": JSON_KEY},
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=range(len(PIPELINES)))
@given(value=JSON, key=JSON)
def test_any_json_becomes_messages_or_is_rejected(pipeline, value, key):
    found = attempt(decoder(**pipeline), record(json.dumps(value).encode(), json.dumps(key).encode()))
    for item in () if isinstance(found, Rejected) else found:
        assert 0 < len(item.id.encode()) <= 512
        assert isinstance(item, Delete) or (json.loads(item.metadata) is not None and item.text)
