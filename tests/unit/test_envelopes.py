"""What records of Debezium, Connect, Maxwell, Canal and CloudEvents become; each row of their traps is a test."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode.decoder import headers_read
from embedstream.decode.message import Delete, Message
from embedstream.decode.spec import Decoding
from embedstream.errors import Rejected
from support.recorded import RECORDS, attempt, decoder, record, recorded

EPOCH = datetime.fromtimestamp(0, UTC)


def outcome(decode, name):
    """The id of a delete, the id and the text of a message, or the code of the refusal; alone where it is one."""
    items = attempt(decode, recorded(name))
    if isinstance(items, Rejected):
        return items.code
    found = [item.id if isinstance(item, Delete) else (item.id, item.text) for item in items]
    return found[0] if len(found) == 1 else found


TEXT = {"text": ("value.title", "value.body")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("snapshot", ("2", "t\n\nb")),
        ("create", ("3", "new\n\ntext")),
        ("update_with_unchanged_body", "text_unavailable"),
        ("delete", "2"),
        ("delete_without_before", "2"),
        ("tombstone", "2"),
        ("key_change_delete", "3"),
        ("key_change_create", ("4", "new\n\ntext")),
        ("truncate", "truncate"),
        ("heartbeat", []),
        ("transaction", []),
        ("schema_change", []),
        ("logical_message", []),
        ("with_schemas", ("2", "t\n\nb")),
        ("connect_null", "k-1"),
        ("unwrapped", "envelope"),
        ("maxwell_insert", "envelope"),
    ],
)
def test_debezium(name, expected):
    assert outcome(decoder(envelope="debezium", **TEXT), name) == expected


@pytest.mark.parametrize("key", ["json", "text"])
def test_debezium_key_is_json_whether_the_file_says_so_or_not(key):
    decode = decoder(envelope="debezium", format={"key": key, "value": "json"}, **TEXT)
    assert [outcome(decode, name) for name in ("tombstone", "delete")] == ["2", "2"]


def test_an_unchanged_text_keeps_what_is_stored():
    (message,) = decoder(envelope="debezium", text="value.body")(recorded("update_with_unchanged_body"))
    assert (message.id, message.text, message.content_hash) == ("2", None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value.raw", ("2", None)),
        ("value.tags", ("2", None)),
        ("value.tags[0]", ("2", None)),
        ("value.absent || value.body", ("2", None)),
        ({"from": "value.body", "as": "html"}, ("2", None)),
        ("join(': ', [value.title, value.body])", "text_unavailable"),
        ("to_string(value.tags)", "text_unavailable"),
        ("value.title", ("2", "t2")),
    ],
)
def test_where_the_placeholder_is_looked_for(text, expected):
    assert outcome(decoder(envelope="debezium", text=text), "update_with_unchanged_body") == expected


def test_the_placeholder_is_a_setting():
    own = decoder(envelope="unwrap", placeholder="n/a", text="value.body")
    assert own(record({"body": "n/a"}, {"id": 1}))[0].text is None
    assert outcome(own, "unwrapped_unchanged") == ("1", "__debezium_unavailable_value")
    other = decoder(envelope="connect", text="value.body")
    (message,) = other(record({"schema": None, "payload": {"body": "__debezium_unavailable_value"}}, "k"))
    assert message.text == "__debezium_unavailable_value"


@pytest.mark.parametrize(
    "field",
    [
        {"metadata": {"raw": "value.raw"}},
        {"metadata": {"tags": "value.tags"}},
        {"metadata": "*"},
        {"source": "value.body"},
        {"timestamp": "value.body"},
        {"id": "value.body"},
    ],
)
def test_any_other_field_without_its_value_is_rejected(field):
    decode = decoder(envelope="debezium", text="value.title", **field)
    assert outcome(decode, "update_with_unchanged_body") == "value_unavailable"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unwrapped", ("1", "t\n\nb")),
        ("unwrapped_plain", ("1", "t\n\nb")),
        ("unwrapped_delete", "1"),
        ("unwrapped_unchanged", "text_unavailable"),
        ("tombstone", "2"),
        ("snapshot", "envelope"),
        ("with_schemas", "envelope"),
    ],
)
def test_unwrap(name, expected):
    assert outcome(decoder(envelope="unwrap", **TEXT), name) == expected


def test_unwrap_says_what_the_transform_added():
    decode = decoder(envelope="unwrap", text="value.body", source="event.op", metadata={"lsn": "event.lsn"})
    (message,) = decode(recorded("unwrapped"))
    assert (message.source, json.loads(message.metadata)) == ("u", {"lsn": 7})
    assert message.timestamp == datetime.fromtimestamp(1767323053, UTC)


def test_outbox_value_is_the_payload_and_the_key_as_it_is():
    (message,) = decoder(envelope="unwrap", text="value.title", metadata={"event": "headers.id"})(recorded("outbox"))
    assert (message.id, json.loads(message.metadata)) == ("order-7", {"event": "5c3f"})


def test_a_schema_tells_what_numbers_stand_for():
    names = ("price", "any_num", "made_at", "day", "tm", "updated_at")
    decode = decoder(envelope="debezium", text="value.body", metadata={name: f"value.{name}" for name in names})
    assert json.loads(decode(recorded("with_schemas"))[0].metadata) == {
        "price": "12.34",
        "any_num": "1234567890.123456789",
        "made_at": "2026-01-02T03:04:05.123456Z",
        "day": "2026-01-02",
        "tm": "03:04:05.500000",
        "updated_at": "2026-01-02T01:04:05.123456Z",
    }
    assert json.loads(decode(recorded("snapshot"))[0].metadata)["price"] == "BNI="


def test_debezium_documents_are_read_by_an_expression():
    decode = decoder(envelope="debezium", id='from_json(key.id)."$oid"', text="from_json(value).title")
    assert outcome(decode, "mongodb") == ("65f0", "m")


def test_the_time_shown_is_that_of_the_change_and_the_order_that_of_the_log():
    (message,) = decoder(envelope="debezium", text="value.body")(recorded("snapshot"))
    assert message.timestamp == datetime(2026, 1, 2, 3, 4, 6, 123, UTC)
    assert (message.version.event_time, message.version.offset) == (EPOCH, 7)
    (delete,) = decoder(envelope="debezium", text="value.body", version="time")(recorded("delete"))
    assert delete.version.event_time == datetime.fromtimestamp(1767323049, UTC)


@pytest.mark.parametrize("time", ["value.made_at", {"from": "value.made_at", "unit": "us"}])
@pytest.mark.parametrize("name", ["snapshot", "with_schemas"])
def test_a_column_with_the_time_is_the_same_with_and_without_schema(time, name):
    (message,) = decoder(envelope="debezium", text="value.body", timestamp=time)(recorded(name))
    assert message.timestamp == datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)


def test_connect():
    names = ("at", "day", "tm", "price", "seen", "days")
    decode = decoder(envelope="connect", text="value.text", metadata={name: f"value.{name}" for name in names})
    (message,) = decode(recorded("connect"))
    assert (message.id, message.text) == ("k-1", "hello")
    assert json.loads(message.metadata) == {
        "at": "2026-01-02T03:04:05.123000Z",
        "day": "2026-01-02",
        "tm": "03:04:05.500000",
        "price": "-12.34",
        "seen": ["1970-01-01T00:00:00Z"],
        "days": {"a": "1970-01-02"},
    }
    assert outcome(decode, "connect_null") == "k-1"
    assert outcome(decode, "unwrapped_plain") == "envelope"


def schema(name, **more):
    return {"type": "struct", "fields": [{"field": "x", "name": name, **more}]}


@pytest.mark.parametrize(
    ("of", "given", "expected"),
    [
        (schema("org.apache.kafka.connect.data.Decimal", parameters={"scale": "2"}), 12.34, 12.34),
        (schema("org.apache.kafka.connect.data.Decimal", parameters={"scale": "2"}), "?", "?"),
        (schema("org.apache.kafka.connect.data.Decimal", parameters={"scale": "-2"}), "AQ==", "100"),
        (schema("org.apache.kafka.connect.data.Decimal", parameters={"scale": "9999999"}), "AQ==", "AQ=="),
        (schema("org.apache.kafka.connect.data.Decimal"), "AQ==", "AQ=="),
        (schema("io.debezium.time.NanoTimestamp"), 1_000, "1970-01-01T00:00:00.000001Z"),
        (schema("io.debezium.time.Timestamp"), 10**30, 10**30),
        (schema("io.debezium.time.Timestamp"), "n/a", "n/a"),
        (schema("io.debezium.time.Date"), True, "1970-01-02"),
        ({"fields": ["x", {"field": None}, {"field": "x", "fields": 1}]}, 1, 1),
        ({"fields": {}}, 1, 1),
        ("schema", 1, 1),
    ],
)
def test_what_a_schema_does_not_explain_stays(of, given, expected):
    decode = decoder(envelope="connect", text="'t'", metadata={"x": "value.x"})
    (message,) = decode(record({"schema": of, "payload": {"x": given}}, "k"))
    assert json.loads(message.metadata) == {"x": expected}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maxwell_insert", ("1", "text")),
        ("maxwell_update", ("1", "new")),
        ("maxwell_key_change", ["1", ("2", "new")]),
        ("maxwell_delete", "1"),
        ("maxwell_array_key", ("1:en", "text")),
        ("maxwell_primary_key", ("9", "text")),
        ("maxwell_bootstrap", ("1", "text")),
        ("maxwell_bootstrap_start", []),
        ("maxwell_ddl", []),
        ("snapshot", "envelope"),
    ],
)
def test_maxwell(name, expected):
    assert outcome(decoder(envelope="maxwell", text="value.body"), name) == expected


def test_maxwell_time_is_in_seconds_and_its_dates_are_in_no_zone():
    (message,) = decoder(envelope="maxwell", text="value.body")(recorded("maxwell_insert"))
    assert (message.timestamp.timestamp(), message.version.event_time) == (1764240000, EPOCH)
    time = {"from": "value.at", "zone": "Europe/Berlin"}
    (message,) = decoder(envelope="maxwell", text="value.body", timestamp=time)(recorded("maxwell_insert"))
    assert message.timestamp == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert outcome(decoder(envelope="maxwell", text="value.body", timestamp="value.at"), "maxwell_insert") == (
        "bad_timestamp"
    )


def test_a_zero_date_is_none():
    decode = decoder(envelope="maxwell", text="value.body", timestamp="value.never")
    assert decode(recorded("maxwell_insert"))[0].timestamp.timestamp() == 1764240000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("canal_insert", [("1", "one"), ("2", "two")]),
        ("canal_update", [("1", "one"), "2", ("3", "two")]),
        ("canal_delete", "1"),
        ("canal_ddl", []),
        ("canal_truncate", "truncate"),
        ("ticdc_watermark", []),
        ("maxwell_insert", "envelope"),
    ],
)
def test_canal(name, expected):
    assert outcome(decoder(envelope="canal", text="value.body"), name) == expected


def test_canal_rows_are_in_order():
    items = decoder(envelope="canal", text="value.body")(recorded("canal_insert"))
    assert [item.version.item for item in items] == [0, 1]


@pytest.mark.parametrize("name", ["canal_insert", "canal_update"])
def test_canal_time_is_in_milliseconds_or_in_seconds(name):
    items = decoder(envelope="canal", text="value.body")(recorded(name))
    assert {item.timestamp.timestamp() for item in items if isinstance(item, Message)} == {1764240000}


def test_canal_by_each():
    decode = decoder(envelope="canal", each="value.data", id="item.id", text="item.body", source="event.table")
    assert outcome(decode, "canal_insert") == [("1", "one"), ("2", "two")]
    assert outcome(decode, "canal_delete") == "1"
    assert outcome(decode, "canal_ddl") == []


EVENT = {"envelope": "cloudevents", "text": "value.body"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("structured", ("articles/7", "text")),
        ("structured_without_subject", ("k", "text")),
        ("structured_without_anything", "id_missing"),
        ("structured_without_data", "text_missing"),
        ("structured_base64_json", ("k", "text")),
        ("structured_base64_broken", "envelope"),
        ("structured_by_shape", ("articles/7", "text")),
        ("batch", "envelope"),
        ("binary", ("articles/7", "text")),
        ("binary_without_data", "articles/7"),
        ("none", "envelope"),
    ],
)
def test_cloudevents(name, expected):
    assert outcome(decoder(**EVENT), name) == expected


@pytest.mark.parametrize(("name", "text"), [("structured_base64_text", "één"), ("structured_base64_bytes", "/wA=")])
def test_cloudevents_data_that_are_no_json(name, text):
    assert outcome(decoder(envelope="cloudevents", text="value"), name) == ("k", text)


@pytest.mark.parametrize("name", ["structured", "binary"])
def test_attributes_of_an_event_are_read_in_both_modes(name):
    decode = decoder(**EVENT, source="event.source", metadata={"type": "event.type", "lang": "event.lang"})
    (message,) = decode(recorded(name))
    assert message.timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (message.source, json.loads(message.metadata)) == ("/shop", {"type": "article.updated", "lang": "en"})


def test_an_event_by_type_can_be_a_delete():
    decode = decoder(**EVENT, delete="event.type == 'article.touched'")
    assert outcome(decode, "structured_without_data") == "articles/7"


def test_headers_that_are_read():
    spec = Decoding(envelope="cloudevents", text="value.body", metadata={"a": "event.lang", "b": 'headers."x-y"'})
    assert {"ce_lang", "x-y", "content-type", "ce_specversion", "ce_subject"} <= headers_read(spec)
    assert headers_read(Decoding()) == frozenset()
    assert headers_read(Decoding(format="registry")) == {"__value_schema_id"}


@pytest.mark.parametrize("envelope", ["debezium", "unwrap", "maxwell", "canal", "cloudevents", "connect"])
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_another_envelope_is_refused_in_one_sentence(envelope, name):
    found = attempt(decoder(envelope=envelope, text="value.body"), recorded(name))
    if isinstance(found, Rejected):
        assert "\n" not in found.reason
        assert len(found.reason) < 250


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda node: st.lists(node, max_size=3) | st.dictionaries(st.text(max_size=3), node, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "schema", "payload", "op", "before", "after", "source", "ts_ms", "ts_us", "type", "data", "old", "database",
    "table", "isDdl", "pkNames", "es", "ts", "primary_key", "primary_key_columns", "specversion", "id", "subject",
    "time", "data_base64", "datacontenttype", "__deleted", "__op", "status", "ddl", "databaseName", "body",
]  # fmt: skip
SAID = JSON | st.sampled_from(
    ["c", "d", "u", "t", "insert", "update", "UPDATE", "DELETE", "__debezium_unavailable_value"]
)
ALIKE = st.dictionaries(st.sampled_from(FIELDS), SAID | st.dictionaries(st.sampled_from(FIELDS), SAID), max_size=12)


@pytest.mark.parametrize("envelope", ["debezium", "unwrap", "maxwell", "canal", "cloudevents", "connect"])
@given(value=ALIKE | JSON, key=ALIKE | JSON)
def test_anything_alike_becomes_messages_or_is_rejected(envelope, value, key):
    decode = decoder(envelope=envelope, text="value.body", format={"key": "json", "value": "json"})
    found = attempt(decode, record(json.dumps(value).encode(), json.dumps(key).encode()))
    assert isinstance(found, Rejected) or all(isinstance(item, Message | Delete) for item in found)
