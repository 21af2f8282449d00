"""From the bytes of a key or a value to plain values, by the format that the pipeline file names."""

import gzip
import struct
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode.formats import reader
from embedstream.decode.spec import ProtobufFile
from embedstream.errors import ConfigError, Rejected
from support.plain import is_plain, outcome

HERE = Path()


def read(format, data, part="value"):
    return reader(format, part, None, HERE)(data)


def refused(format, data, part="value"):
    with pytest.raises(Rejected) as caught:
        read(format, data, part)
    assert caught.value.stage == "decode"
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
        (b'"text"', "text"),
        (b"[1]", [1]),
        (b"null", None),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'"\\ud800"', "\ud800"),
        (b"1e999", float("inf")),
    ],
)
def test_json_is_any_value(data, value):
    assert read("json", data) == value


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "not_json", "the key is empty (zero bytes)"),
        (b"{", "not_json", "the key is not JSON"),
        (b"NaN", "not_json", "the key is not JSON (NaN is no JSON number: write null, or leave the field out)"),
        (b"[" * 200_000, "not_json", "the key is JSON of unreasonable depth"),
        (b'"\xff"', "not_utf8", "the key is not UTF-8 (byte 1)"),
        ('{"a": 1}'.encode("utf-16"), "not_utf8", "the key is UTF-16, not UTF-8"),
        (gzip.compress(b"{}", mtime=0), "not_utf8", "it looks like gzip"),
    ],
)
def test_what_is_no_json_is_refused_by_the_part_that_it_is(data, code, says):
    found = refused("json", data, "key")
    assert found[0] == code
    assert says in found[1]


def test_only_a_value_is_told_what_a_delete_is():
    assert "a delete is" in refused("json", b"")[1]
    assert "a delete is" not in refused("json", b"", "key")[1]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("héllo".encode(), "héllo"),
        (b"\xef\xbb\xbfhello", "hello"),
        (b"", ""),
        (b"a\r\nb\n", "a\r\nb\n"),
        (b'{"a": 1}', '{"a": 1}'),
    ],
)
def test_text_is_utf8_as_it_stands_without_a_byte_order_mark(data, text):
    assert read("text", data) == text


@pytest.mark.parametrize(
    ("data", "form"),
    [
        ("hello".encode("utf-16"), "UTF-16"),
        ("hello".encode("utf-32"), "UTF-32"),
        ("caf\xe9 and more".encode("latin-1"), "Latin-1 or Windows-1252"),
        ("\u201cquoted\u201d".encode("cp1252"), "Latin-1 or Windows-1252"),
        (gzip.compress(b"hello", mtime=0), "gzip"),
    ],
)
def test_text_in_another_encoding_is_refused_by_its_name(data, form):
    code, reason = refused("text", data)
    assert code == "not_utf8"
    assert reason.endswith(f": it looks like {form}")


def test_what_no_encoding_explains_is_not_given_a_name():
    assert refused("text", b"a\x81\x01") == ("not_utf8", "the value is not UTF-8 (byte 1)")


@pytest.mark.parametrize(("format", "code"), [("int32", ">i"), ("int64", ">q")])
@pytest.mark.parametrize("number", [0, 42, -1, 2**31 - 1, -(2**31)])
def test_numbers_are_those_of_javas_serializers(format, code, number):
    assert read(format, struct.pack(code, number), "key") == number


def test_numbers_of_another_length_are_refused():
    assert refused("int64", b"\0\0\0\1", "key") == ("not_int64", "the key has 4 bytes, where an int64 has 8")
    assert refused("int32", b"42") == ("not_int32", "the value has 2 bytes, where an int32 has 4")


def test_a_uuid_is_its_text_in_lower_case():
    id = uuid.uuid4()
    assert read("uuid", str(id).encode()) == str(id)
    assert read("uuid", str(id).upper().encode()) == str(id)


ID = b"613eff5c-4454-4a96-924e-d35a3b10783d"


@pytest.mark.parametrize("data", [b"", b"a", uuid.UUID(ID.decode()).bytes, b"{" + ID + b"}", b"\xff" * 36])
def test_what_is_no_uuid_is_refused(data):
    assert refused("uuid", data, "key")[0] == "not_uuid"


def test_a_format_that_needs_a_registry_asks_for_its_url():
    with pytest.raises(ConfigError, match=r"format of the key is registry.*set registry to its URL"):
        reader("registry", "key", None, HERE)


@pytest.mark.parametrize("format", ["json", "text", "int32", "int64", "uuid"])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_plain_values_or_refused(format, data):
    found = outcome(read, format, data)
    assert is_plain(found) or isinstance(found, Rejected)


PROTO = """syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "common/money.proto";
import "near.proto";
message Ticket { string id = 1; google.protobuf.Timestamp at = 2; common.Money price = 3; near.Thing thing = 4; }
"""
MONEY = 'syntax = "proto3"; package common; message Money { int64 units = 1; }'
NEAR = 'syntax = "proto3"; package near; message Thing { string name = 1; }'


@pytest.fixture
def proto(tmp_path):
    """A `.proto` file that imports from the pipeline file's directory, from its own folder, and what is well known."""
    folder = tmp_path / "protos"
    (tmp_path / "common").mkdir()
    folder.mkdir()
    (tmp_path / "common" / "money.proto").write_text(MONEY)
    (folder / "near.proto").write_text(NEAR)
    (folder / "ticket.proto").write_text(PROTO)
    return tmp_path


def test_protobuf_by_file_finds_its_imports(proto):
    read = reader(ProtobufFile(protobuf="protos/ticket.proto", message="shop.v1.Ticket"), "value", None, proto)
    data = b"\x0a\x01a" + b"\x12\x02\x08\x01" + b"\x1a\x02\x08\x05" + b"\x22\x03\x0a\x01x"
    assert read(data) == {"id": "a", "at": "1970-01-01T00:00:01Z", "price": {"units": 5}, "thing": {"name": "x"}}
    assert read(b"") == {"id": ""}
    with pytest.raises(Rejected) as caught:
        read(b"\x0a\x7fa")
    assert caught.value.code == "bad_protobuf"
    assert caught.value.reason == "the value is no Protobuf message shop.v1.Ticket (DecodeError)"


def test_a_proto_file_may_lie_outside_of_the_pipeline_files_directory(proto):
    (proto / "elsewhere").mkdir()
    (proto / "elsewhere" / "common").symlink_to(proto / "common")
    file = ProtobufFile(protobuf="../protos/ticket.proto", message="shop.v1.Ticket")
    assert reader(file, "value", None, proto / "elsewhere")(b"\x0a\x01a") == {"id": "a"}


@pytest.mark.parametrize(
    ("path", "message", "says"),
    [
        ("absent.proto", "a.B", "there is no file"),
        ("protos", "a.B", "there is no file"),
        ("protos/ticket.proto", "Ticket", "has no message Ticket, package included"),
        ("broken.proto", "a.B", "broken.proto:1:"),
    ],
)
def test_a_proto_file_that_cannot_be_used_is_the_operators_to_mend(proto, path, message, says):
    (proto / "broken.proto").write_text("mesage")
    with pytest.raises(ConfigError, match=says):
        reader(ProtobufFile(protobuf=path, message=message), "value", None, proto)


def test_modules_beside_a_proto_file_are_not_run(proto):
    """protoc runs as a Python module; the folders that it reads hold what others wrote."""
    (proto / "grpc_tools").mkdir()
    (proto / "grpc_tools" / "protoc.py").write_text("raise SystemExit(7)")
    file = ProtobufFile(protobuf="protos/near.proto", message="near.Thing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(proto)
        assert reader(file, "value", None, proto)(b"") == {"name": ""}
