"""Protobuf by a registry's schema, without generated code."""

import base64
from contextlib import suppress

import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstream.decode import protoc
from embedstream.decode.protobuf import _pool, compile_protobuf
from embedstream.decode.protoc import ROOT, files_of_schema
from embedstream.decode.schema import Reference, Schema, Unreadable, Unusable
from embedstream.errors import RetryLater
from support.plain import is_plain

TEXT = """syntax = "proto3";
package shop.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "common/money.proto";
message Ticket {
  enum State { NEW = 0; DONE = 1; }
  message Author { string name = 1; int64 id = 2; }
  string id = 1;
  int64 version = 2;
  bool open = 3;
  double score = 4;
  float share = 5;
  bytes raw = 6;
  State state = 7;
  map<string, string> labels = 8;
  map<int32, Author> by_number = 9;
  map<bool, State> by_truth = 10;
  repeated string tags = 11;
  repeated Author authors = 12;
  repeated State states = 13;
  oneof who { string user = 14; int32 bot = 15; }
  optional string lang = 16;
  Author author = 17;
  google.protobuf.Timestamp at = 18;
  google.protobuf.Duration took = 19;
  google.protobuf.Struct extra = 20;
  google.protobuf.Value any_value = 21;
  google.protobuf.StringValue maybe = 22;
  google.protobuf.FloatValue maybe_share = 23;
  google.protobuf.BytesValue maybe_raw = 24;
  google.protobuf.FieldMask mask = 25;
  google.protobuf.Any any = 26;
  common.Money price = 27;
  repeated google.protobuf.Timestamp times = 28;
  Ticket parent = 29;
}
message Other { string name = 1; }
"""
MONEY = 'syntax = "proto3"; package common; message Money { string currency = 1; int64 units = 2; }'
SCHEMA = Schema("PROTOBUF", TEXT, (Reference("common/money.proto", MONEY),))
EMPTY = {
    "id": "", "version": 0, "open": False, "score": 0.0, "share": 0.0, "raw": "", "state": "NEW", "labels": {},
    "by_number": {}, "by_truth": {}, "tags": [], "authors": [], "states": [], "times": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def files():
    return files_of_schema(SCHEMA)


@pytest.fixture(scope="module")
def ticket(files):
    return GetMessageClass(_pool(files).FindMessageTypeByName("shop.v1.Ticket"))


@pytest.fixture(scope="module")
def read():
    decode = compile_protobuf(SCHEMA)
    return lambda message: decode(b"\0\0\0\0\1\0" + message.SerializeToString(), 5)


STRUCT = {"a": 5, "b": [1.5, None, True, {"c": "d"}]}


def test_what_cannot_tell_whether_it_was_set_has_its_default_and_what_can_is_left_out(read, ticket):
    assert read(ticket()) == EMPTY


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "é", "version": 2**62, "open": True, "score": 0.1, "tags": ["a", "b"]},
        {"user": ""},
        {"bot": 0},
        {"lang": ""},
        {"author": {"name": "A", "id": 5}},
        {"author": {"name": "", "id": 0}},
        {"authors": [{"name": "A", "id": 1}, {"name": "B", "id": 2}]},
        {"labels": {"a": "b"}},
        {"price": {"currency": "EUR", "units": 3}},
    ],
)
def test_fields_that_are_set(read, ticket, fields):
    assert read(ticket(**fields)) == EMPTY | fields


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({"raw": b"\0\xff"}, {"raw": "AP8="}),
        ({"share": 1.1}, {"share": 1.1}),
        ({"state": 1, "states": [0, 1, 7]}, {"state": "DONE", "states": ["NEW", "DONE", 7]}),
        ({"state": 9}, {"state": 9}),
        ({"by_truth": {True: 1}}, {"by_truth": {"true": "DONE"}}),
        ({"at": {"seconds": 1767323045}}, {"at": "2026-01-02T03:04:05Z"}),
        ({"at": {"seconds": 1767323045, "nanos": 120_000_000}}, {"at": "2026-01-02T03:04:05.120Z"}),
        ({"at": {"seconds": 1767323045, "nanos": 123_456_000}}, {"at": "2026-01-02T03:04:05.123456Z"}),
        ({"at": {"seconds": -1, "nanos": 1}}, {"at": "1969-12-31T23:59:59.000000001Z"}),
        ({"at": {"seconds": 2**62}}, {"at": 2**62}),
        ({"times": [{"seconds": 0}]}, {"times": ["1970-01-01T00:00:00Z"]}),
        ({"took": {"seconds": 3}}, {"took": "3s"}),
        ({"took": {"seconds": -1, "nanos": -500_000_000}}, {"took": "-1.500s"}),
        ({"took": {"nanos": 1000}}, {"took": "0.000001s"}),
        ({"extra": STRUCT}, {"extra": STRUCT}),
        ({"any_value": {"number_value": 7}}, {"any_value": 7}),
        ({"any_value": {}}, {"any_value": None}),
        ({"maybe": {"value": ""}, "maybe_share": {"value": 1.1}}, {"maybe": "", "maybe_share": 1.1}),
        ({"maybe_raw": {"value": b"\1"}}, {"maybe_raw": "AQ=="}),
        ({"mask": {"paths": ["a.b", "c"]}}, {"mask": "a.b,c"}),
        ({"any": {"type_url": "t/x", "value": b"\1"}}, {"any": {"@type": "t/x", "value": "AQ=="}}),
        ({"parent": {"id": "a"}}, {"parent": EMPTY | {"id": "a"}}),
    ],
)  # fmt: skip
def test_values_that_are_not_plain(read, ticket, fields, plain):
    assert read(ticket(**fields)) == EMPTY | plain


def test_numbers_as_keys_of_messages_are_strings(read, ticket):
    message = ticket()
    message.by_number[-1].id = 5
    assert read(message) == EMPTY | {"by_number": {"-1": {"name": "", "id": 5}}}


def test_moments_and_durations_are_those_of_protobufs_own_json(read, ticket):
    for seconds, nanos in [(0, 0), (1, 999_999_999), (-62135596800, 0), (253402300799, 1000)]:
        message = ticket(at={"seconds": seconds, "nanos": nanos}, took={"seconds": abs(seconds), "nanos": nanos})
        expected = json_format.MessageToDict(message)
        found = read(message)
        assert (found["at"], found["took"]) == (expected["at"], expected["took"])


NESTED = """syntax = "proto3";
message A {
  map<string, string> labels = 1;
  message B { message D { string d = 1; } string b = 1; }
  message C { string c = 1; }
}
message E { string e = 1; }
"""


@pytest.mark.parametrize(
    ("indexes", "found"),
    [
        (b"\0", {"labels": {}}),
        (b"\2\0", {"labels": {}}),
        (b"\2\2", {"e": ""}),
        (b"\4\0\0", {"b": ""}),
        (b"\4\0\2", {"c": ""}),
        (b"\6\0\0\0", {"d": ""}),
    ],
)
def test_the_message_is_named_by_its_place_in_the_text(indexes, found):
    """A map is no message of the text, whatever protoc makes of it."""
    assert compile_protobuf(Schema("PROTOBUF", NESTED))(indexes, 0) == found


def test_of_a_descriptor_all_messages_count():
    """So count the producers that register descriptors, Python's: the map's own message comes first."""
    text = base64.b64encode(files_of_schema(Schema("PROTOBUF", NESTED))[ROOT].SerializeToString()).decode()
    assert compile_protobuf(Schema("PROTOBUF", text))(b"\4\0\2", 0) == {"b": ""}


@pytest.mark.parametrize(
    ("indexes", "says"),
    [
        (b"", "ends within its message indexes"),
        (b"\2", "ends within its message indexes"),
        (b"\2\4", "names message 2 where its schema declares 2"),
        (b"\2\1", "names message -1"),
        (b"\4\2\0", "names message 0 where its schema declares 0"),
        (b"\1", "begins with -1 message indexes"),
        (b"\xff" * 9 + b"\1", "message indexes"),
        (b"\xff" * 30, "more than 64 bits"),
    ],
)
def test_an_index_out_of_range_is_named(indexes, says):
    with pytest.raises(Unreadable, match=says):
        compile_protobuf(Schema("PROTOBUF", NESTED))(indexes, 0)


def test_descriptors_in_base64_are_read_as_text_is(files, ticket):
    """As Python's producers register them; what is well known is not among the references."""
    texts = {name: base64.b64encode(file.SerializeToString()).decode() for name, file in files.items()}
    references = (Reference("common/money.proto", texts["common/money.proto"]),)
    data = b"\0" + ticket(id="a", at={"seconds": 0}, price={"units": 3}).SerializeToString()
    expected = EMPTY | {"id": "a", "at": "1970-01-01T00:00:00Z", "price": {"currency": "", "units": 3}}
    assert compile_protobuf(Schema("PROTOBUF", texts[ROOT], references))(data, 0) == expected
    assert compile_protobuf(Schema("PROTOBUF", TEXT, references))(data, 0) == expected
    assert compile_protobuf(Schema("PROTOBUF", texts[ROOT], SCHEMA.references))(data, 0) == expected


def test_what_confluents_registry_knows_without_a_reference():
    text = """syntax = "proto3";
    import "confluent/meta.proto";
    import "confluent/type/decimal.proto";
    message A {
      option (confluent.message_meta) = { doc: "words" };
      confluent.type.Decimal price = 1 [(confluent.field_meta) = { params: [{ key: "scale", value: "2" }] }];
    }"""
    assert compile_protobuf(Schema("PROTOBUF", text))(b"\0\x0a\x00", 0) == {
        "price": {"value": "", "precision": 0, "scale": 0}
    }


def test_proto2_leaves_out_what_was_not_set():
    text = """syntax = "proto2";
    message A {
      optional string lang = 1 [default = "en"];
      repeated int32 n = 2;
      optional group G = 3 { optional int32 x = 4; }
    }
    """
    decode = compile_protobuf(Schema("PROTOBUF", text))
    assert decode(b"\0", 0) == {"n": []}
    assert decode(b"\0\x0a\x02de\x1b\x20\x05\x1c", 0) == {"lang": "de", "n": [], "g": {"x": 5}}


def test_a_schema_is_compiled_once(monkeypatch):
    schema = Schema("PROTOBUF", 'syntax = "proto3"; message Once { string a = 1; }')
    first = compile_protobuf(schema)
    monkeypatch.setattr(protoc.subprocess, "run", None)
    assert compile_protobuf(Schema(*schema)) is first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('syntax = "proto3"; message A { strin a = 1; }', r"refused by protoc: __value.proto:1:32: \"strin\""),
        ('import "absent.proto";', "absent.proto"),
        ("mesage", "refused by protoc: __value.proto:1:1"),
        (base64.b64encode(b"\x1a\x01x").decode(), "refused by protoc"),
    ],
)
def test_what_protoc_says_is_the_reason(text, says):
    with pytest.raises(Unusable, match=says):
        compile_protobuf(Schema("PROTOBUF", text))


@pytest.mark.parametrize("name", ["../a.proto", "/tmp/a.proto", "", ".", "a\0b", "a/../../b.proto"])
def test_a_reference_stays_inside_of_its_folder(name):
    with pytest.raises(Unusable, match="no path inside of a folder"):
        compile_protobuf(Schema("PROTOBUF", 'syntax = "proto3";', (Reference(name, ""),)))


def test_references_that_cannot_lie_side_by_side_are_unusable():
    references = (Reference("a.proto", MONEY), Reference("a.proto/b.proto", MONEY))
    with pytest.raises(Unusable, match="cannot be written to a file"):
        compile_protobuf(Schema("PROTOBUF", 'syntax = "proto3";', references))


def test_a_machine_in_trouble_is_no_reason_to_refuse(monkeypatch):
    monkeypatch.setattr(protoc, "_SECONDS", 0.001)
    with pytest.raises(RetryLater, match=r"within 0.001 s"):
        compile_protobuf(Schema("PROTOBUF", 'syntax = "proto3"; message Slow { string a = 1; }'))
    monkeypatch.setattr(protoc.tempfile, "tempdir", "/does/not/exist")
    with pytest.raises(RetryLater, match="temporary directory"):
        compile_protobuf(Schema("PROTOBUF", 'syntax = "proto3"; message Full { string a = 1; }'))


@settings(deadline=None)
@given(data=st.binary(max_size=100))
def test_any_bytes_are_plain_values_or_an_error(data):
    found = None
    with suppress(Exception):
        found = compile_protobuf(SCHEMA)(b"\0" + data, 0)
    assert is_plain(found)
