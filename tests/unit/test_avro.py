"""Avro by the schema that it was written with, and what Connect and Debezium mean by it."""

import io
import json
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import uuid4

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstream.decode.avro import compile_avro
from embedstream.decode.schema import Reference, Schema, Unreadable, Unusable
from support.plain import is_plain

CONNECT, DEBEZIUM = "org.apache.kafka.connect.data.", "io.debezium.time."


def compiled(schema, *references):
    texts = tuple(Reference(name, json.dumps(text)) for name, text in references)
    return compile_avro(Schema("AVRO", json.dumps(schema), texts))


def written(schema, value, *references):
    named = {}
    for _, text in references:
        fastavro.parse_schema(json.loads(json.dumps(text)), named)
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(json.dumps(schema)), named), value)
    return stream.getvalue()


def read(schema, value):
    """What comes of a value that is written without the schema's logical types, and read with them."""
    return compiled(schema)(written(bare(schema), value), 0)


def bare(node):
    if isinstance(node, list):
        return [bare(item) for item in node]
    if isinstance(node, dict):
        return {name: bare(part) for name, part in node.items() if name != "logicalType"}
    return node


@pytest.mark.parametrize(
    ("schema", "value", "plain"),
    [
        ("null", None, None),
        ("boolean", True, True),
        ("int", -5, -5),
        ("long", 2**62, 2**62),
        ("double", 0.1, 0.1),
        ("float", 1.1, 1.1),
        ("string", "é", "é"),
        ("bytes", b"\0\xff", "AP8="),
        ({"type": "fixed", "name": "F", "size": 2}, b"\0\xff", "AP8="),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
        (["null", "string"], None, None),
        (["null", "string"], "a", "a"),
        ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
        ({"type": "map", "values": ["null", "bytes"]}, {"a": b"\1", "b": None}, {"a": "AQ==", "b": None}),
    ],
)
def test_values_are_those_of_json(schema, value, plain):
    assert read(schema, value) == plain
    assert is_plain(plain)


def test_a_type_may_stand_inside_of_a_type():
    assert compiled({"type": {"type": "string", "avro.java.string": "String"}})(b"\x02a", 0) == "a"


MICROS = 1767323045123456


@pytest.mark.parametrize(
    ("kind", "name", "value", "plain"),
    [
        ("long", "timestamp-millis", 1767323045123, "2026-01-02T03:04:05.123Z"),
        ("long", "timestamp-micros", MICROS, "2026-01-02T03:04:05.123456Z"),
        ("long", "timestamp-nanos", MICROS * 1000 + 789, "2026-01-02T03:04:05.123456789Z"),
        ("long", "timestamp-millis", -1, "1969-12-31T23:59:59.999Z"),
        ("long", "timestamp-millis", 0, "1970-01-01T00:00:00Z"),
        ("long", "timestamp-micros", 9223372036825200000, 9223372036825200000),  # PostgreSQL's infinity
        ("long", "local-timestamp-millis", 1767323045000, "2026-01-02T03:04:05"),
        ("int", "date", 20455, "2026-01-02"),
        ("int", "date", -719162, "0001-01-01"),
        ("int", "date", 2932896, "9999-12-31"),
        ("int", "date", 2**31 - 1, 2**31 - 1),
        ("int", "time-millis", 11045500, "03:04:05.500"),
        ("long", "time-micros", 11045500000, "03:04:05.500000"),
        ("long", "time-micros", 86_400_000_000, 86_400_000_000),
        ("long", "time-micros", -1, -1),
        ("string", "uuid", "6f2c", "6f2c"),
        ("long", "something-else", 5, 5),
        ("string", "date", "2026", "2026"),
    ],
)
def test_logical_types_of_avro(kind, name, value, plain):
    assert read({"type": kind, "logicalType": name}, value) == plain


@pytest.mark.parametrize(
    ("kind", "name", "value", "plain"),
    [
        ("int", f"{DEBEZIUM}Date", 20455, "2026-01-02"),
        ("int", f"{DEBEZIUM}Time", 11045500, "03:04:05.500"),
        ("long", f"{DEBEZIUM}MicroTime", 11045500000, "03:04:05.500000"),
        ("long", f"{DEBEZIUM}NanoTime", 11045500000000, "03:04:05.500000000"),
        ("long", f"{DEBEZIUM}Timestamp", 1767323045123, "2026-01-02T03:04:05.123Z"),
        ("long", f"{DEBEZIUM}MicroTimestamp", MICROS, "2026-01-02T03:04:05.123456Z"),
        ("long", f"{DEBEZIUM}NanoTimestamp", MICROS * 1000, "2026-01-02T03:04:05.123456000Z"),
        ("string", f"{DEBEZIUM}ZonedTimestamp", "2026-01-02T01:04:05.123456Z", "2026-01-02T01:04:05.123456Z"),
        ("long", f"{DEBEZIUM}MicroDuration", 5, 5),
        ("string", "io.debezium.data.Json", '{"a": 1}', '{"a": 1}'),
        ("int", f"{CONNECT}Date", 20455, "2026-01-02"),
        ("int", f"{CONNECT}Time", 11045500, "03:04:05.500"),
        ("long", f"{CONNECT}Timestamp", 1767323045123, "2026-01-02T03:04:05.123Z"),
    ],
)
def test_what_connect_and_debezium_mark_by_name_alone(kind, name, value, plain):
    assert read(["null", {"type": kind, "connect.version": 1, "connect.name": name}], value) == plain


@pytest.mark.parametrize(
    ("unscaled", "scale", "plain"),
    [
        (b"\x04\xd2", 2, "12.34"),
        (b"\xfb\x2e", 2, "-12.34"),
        (b"\x05", 3, "0.005"),
        (b"\xfb", 3, "-0.005"),
        (b"\0", 2, "0.00"),
        (b"", 2, "0.00"),
        (b"\x05", 0, "5"),
        ((10**40 + 1).to_bytes(20, "big"), 10, "1000000000000000000000000000000.0000000001"),
    ],
)
def test_decimals_have_all_their_digits(unscaled, scale, plain):
    """Beyond the precision that the schema promises, too."""
    assert read({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": scale}, unscaled) == plain
    by_name = {"type": "bytes", "connect.name": f"{CONNECT}Decimal", "connect.parameters": {"scale": str(scale)}}
    assert read(by_name, unscaled) == plain
    size = {"type": "fixed", "name": "D", "size": len(unscaled), "logicalType": "decimal", "precision": 4}
    assert read(size | {"scale": scale}, unscaled) == plain


@given(number=st.integers(-(10**50), 10**50), scale=st.integers(0, 60))
def test_decimals_are_those_of_python(number, scale):
    unscaled = number.to_bytes(22, "big", signed=True)
    found = read({"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": scale}, unscaled)
    assert found == f"{Decimal(f'{number}e-{scale}'):f}"


VARIABLE = {
    "type": "record",
    "name": "VariableScaleDecimal",
    "namespace": "io.debezium.data",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
    "connect.name": "io.debezium.data.VariableScaleDecimal",
}


def test_decimals_of_debezium_that_bring_their_scale():
    assert read(VARIABLE, {"scale": 9, "value": b"\x11\x22\x10\xf4"}) == "0.287445236"
    assert read(VARIABLE, {"scale": -2, "value": b"\x05"}) == "500"
    with pytest.raises(Unreadable, match="scale"):
        read(VARIABLE, {"scale": -(2**31), "value": b"\x05"})


@given(moment=st.datetimes(timezones=st.just(UTC)), days=st.dates(), clock=st.times())
def test_times_are_those_of_python(moment, days, clock):
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)
    found = read({"type": "long", "logicalType": "timestamp-micros"}, micros)
    assert datetime.fromisoformat(found) == moment
    assert read({"type": "int", "logicalType": "date"}, (days - date(1970, 1, 1)).days) == days.isoformat()
    since = ((clock.hour * 60 + clock.minute) * 60 + clock.second) * 1_000_000 + clock.microsecond
    assert time.fromisoformat(read({"type": "long", "logicalType": "time-micros"}, since)) == clock


def test_a_uuid_of_sixteen_bytes():
    id = uuid4()
    assert read({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, id.bytes) == str(id)


def test_defaults_and_names_that_only_java_takes_are_no_obstacle():
    schema = {
        "type": "record",
        "name": "R",
        "doc": "words",
        "aliases": ["Old"],
        "fields": [{"name": "a", "type": ["null", "int"], "default": "of another type", "order": "ignore"}],
    }
    assert compiled(schema)(b"\x02\x0a", 0) == {"a": 5}


MONEY = {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "n", "type": "bytes"}]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("shop.Money", {"n": b"\1"}),
        (["null", "shop.Money"], {"n": b"\1"}),
        ({"type": "array", "items": "shop.Money"}, [{"n": b"\1"}]),
        (
            {"type": "record", "name": "shop.T", "fields": [{"name": "m", "type": "Money"}]},
            {"m": {"n": b"\1"}},
        ),
    ],
)
def test_a_schema_that_refers_to_another(schema, value):
    money = ("shop.Money", MONEY)
    plain = json.loads(json.dumps(value, default=lambda _: "AQ=="))
    data = written({"type": "record", "name": "W", "fields": [{"name": "w", "type": schema}]}, {"w": value}, money)
    assert compiled(schema, money)(b"\0\0\0\0\1" + data, 5) == plain


def test_references_of_references():
    cent = ("Cent", {"type": "fixed", "name": "shop.Cent", "size": 1})
    money = ("Money", {"type": "record", "name": "shop.Money", "fields": [{"name": "c", "type": "Cent"}]})
    assert compiled("shop.Money", cent, money)(b"\1", 0) == {"c": "AQ=="}


NODE = {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}


def test_records_that_hold_themselves():
    assert compiled(NODE)(b"\2\2\0", 0) == {"next": {"next": {"next": None}}}


def test_a_value_that_nests_too_deep_does_not_end_the_process():
    """The compiled reader of fastavro would follow it until the stack is full."""
    with pytest.raises(RecursionError):
        compiled(NODE)(b"\2" * 200_000 + b"\0", 0)


def test_a_schema_that_is_used_in_many_places_is_not_taken_for_one_that_holds_itself():
    schema = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "long"}]}
    for name in "BCDEFGHIJKLMNOPQRSTUVWXYZ":
        schema = {"type": "record", "name": name, "fields": [{"name": "a", "type": schema}]}
        schema["fields"].append({"name": "b", "type": chr(ord(name) - 1)})
    assert compiled(schema)


@pytest.mark.parametrize("items", ["null", {"type": "record", "name": "E", "fields": []}, {"type": "null"}])
def test_arrays_whose_items_take_no_bytes_are_refused(items):
    """Five bytes would be a list of a billion."""
    with pytest.raises(Unusable, match="items take no bytes"):
        compiled({"type": "array", "items": items})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "1", "{}", "[1]", '{"type": "array"}', '{"type": "record", "name": "R"}', '"no.such.Type"',
        '{"type": "record", "name": "R", "fields": [{"name": "a"}]}', '{"type": "enum", "name": "E"}',
        '{"type": "bytes", "logicalType": "decimal", "scale": 1000000}',
        '{"type": "bytes", "logicalType": "decimal", "scale": "x"}', "[" * 100_000 + "]" * 100_000,
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "fixed", "name": "R", "size": 1}}]}',
    ],
)  # fmt: skip
def test_what_is_no_schema_is_unusable(text):
    with pytest.raises(Unusable):
        compile_avro(Schema("AVRO", text))


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x06ab", b"\x02a\x02", b"\x02a\x04"])
def test_bytes_that_end_early_are_noticed(data):
    decode = compiled({"type": "record", "name": "R", "fields": [{"name": name, "type": "string"} for name in "ab"]})
    with pytest.raises(EOFError):
        decode(data, 0)


def test_bytes_behind_the_end_are_noticed():
    with pytest.raises(Unreadable, match="goes on for 2 bytes where its schema ends"):
        compiled("int")(b"\2\0\0", 0)


ANY = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "u", "type": ["null", "string", "R", {"type": "long", "logicalType": "timestamp-nanos"}]},
        {"name": "m", "type": {"type": "map", "values": ["float", {"type": "bytes", "logicalType": "decimal"}]}},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A"]}},
        {"name": "v", "type": ["null", VARIABLE]},
        {"name": "a", "type": {"type": "array", "items": {"type": "int", "logicalType": "date"}}},
    ],
}
DECODERS = [compiled(ANY), compiled({**ANY, "fields": ANY["fields"][1:]})]


@settings(deadline=None)
@given(data=st.binary(max_size=100), decode=st.sampled_from(DECODERS))
def test_any_bytes_are_plain_values_or_an_error(data, decode):
    found = None
    with suppress(Exception):
        found = decode(data, 0)
    assert is_plain(found)
