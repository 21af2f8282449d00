"""What a reason says of a value that is something else than a message."""

import gzip
import json

import pytest

from embedstream.decode.default import decode
from embedstream.decode.message import Record, Rules
from embedstream.errors import Rejected

RULES = Rules("org/model", 1000)
BODY = b'{"text": "hello", "id": "a"}'
CHANGE = {"before": None, "after": {"text": "x"}, "source": {}, "op": "c", "ts_ms": 1}
DELETE = "a delete is a record with a key and a null value"


def refused(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(Rejected) as caught:
        decode(Record(b"k", raw, "t", 0, 0, 0), RULES)
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize(
    "value", [BODY, b'{"text": "hello", "id": 1.50}', b'{"text": "a\\ud800"}', b'{"text": "\xc3\xa9"}']
)
def test_a_byte_order_mark_changes_nothing(value):
    plain, marked = (decode(Record(None, mark + value, "t", 0, 0, 0), RULES) for mark in (b"", b"\xef\xbb\xbf"))
    assert plain == marked


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"), ("utf-32-le", "UTF-32"), ("utf-32-be", "UTF-32"),
    ],
)  # fmt: skip
def test_other_encodings_of_unicode_are_named(encoding, name):
    assert refused(BODY.decode().encode(encoding)) == ("not_utf8", f"the value is {name}, not UTF-8")


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        (b"", "not_json", f"the value is empty (zero bytes): {DELETE}"),
        (b" \n", "not_json", f"the value is empty (white space): {DELETE}"),
        (b"null", "not_an_object", f"the value is JSON, but the JSON text null: {DELETE}"),
        (b" null\n", "not_an_object", DELETE),
        ({"schema": None, "payload": None}, "envelope", f"Kafka Connect's envelope with an empty payload: {DELETE}"),
        ({"before": {"text": "x"}, "after": None, "op": "d"}, "envelope", DELETE),
    ],
)
def test_what_looks_like_a_delete_says_what_a_delete_is(value, code, says):
    found = refused(value)
    assert found[0] == code
    assert says in found[1]


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        (gzip.compress(BODY, mtime=0), "not_utf8", "it looks like gzip"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "not_utf8", "it looks like zstd"),
        (b"\x82SNAPPY\0\0\0\0\x01", "not_utf8", "it looks like snappy"),
        (b"\0\0\0\0\x07" + BODY, "not_json", "a schema registry's framing (magic byte 0, schema id 7)"),
        (b"\0\0\0\1\0\x02\xf0avro", "not_utf8", "a schema registry's framing (magic byte 0, schema id 256)"),
        (b"Obj\x01\x04\x14avro.codec\x08null", "not_json", "an Avro file"),
        (b"<message/>", "not_json", "XML or HTML"),
        (b'{"text": NaN}', "not_json", "NaN is no JSON number: write null"),
        (b'{"text": "x", "metadata": {"a": -Infinity}}', "not_json", "-Infinity is no JSON number"),
        (json.dumps('{"text": "x"}').encode(), "not_an_object", "a string with JSON in it: it was encoded twice"),
        ([{"text": "x"}], "not_an_object", "an array: send each of its objects"),
    ],
)
def test_forms_are_named(value, code, says):
    found = refused(value)
    assert found[0] == code
    assert says in found[1]


@pytest.mark.parametrize("value", [b"\0", b"\xff", b"\0\0\0\0", b"hello", b'{"text": "\xe9"}', b"42"])
def test_what_is_not_recognised_is_not_guessed_at(value):
    assert "looks like" not in refused(value)[1]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (CHANGE, "Debezium's envelope"),
        ({"schema": {"type": "struct"}, "payload": CHANGE}, "Debezium's envelope"),
        ({"schema": {"type": "string"}, "payload": "hello"}, "Kafka Connect's envelope: set value.converter"),
        (
            {"specversion": "1.0", "type": "t", "source": "s", "id": "i", "data": {"text": "x"}},
            "a CloudEvents envelope",
        ),
        ({"database": "d", "table": "t", "type": "insert", "data": {"text": "x"}}, "the envelope of Maxwell"),
        ({"database": "d", "table": "t", "type": "INSERT", "isDdl": False, "data": [{"text": "x"}]}, "of Canal"),
    ],
)
def test_envelopes_are_named(value, name):
    code, reason = refused(value)
    assert (code, name in reason) == ("envelope", True)


@pytest.mark.parametrize("more", [CHANGE, {"schema": 1, "payload": 2}, {"specversion": "1.0", "type": "t"}])
def test_a_message_with_a_text_is_no_envelope(more):
    assert (
        decode(Record(b"k", json.dumps({"text": "x", **more, "source": "s"}).encode(), "t", 0, 0, 0), RULES).text == "x"
    )
