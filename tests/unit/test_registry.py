"""Asking a registry for schemas, and reading what names its schema there."""

import base64
import socket
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from embedstream.decode.formats import reader
from embedstream.decode.registry import Registry
from embedstream.decode.spec import RegistryAccess
from embedstream.decode.unknown import MOST_UNKNOWN, SECONDS_IN_VAIN, SECONDS_UNKNOWN
from embedstream.errors import ConfigError, RegistryUnavailable, Rejected, RetryLater
from support.plain import is_plain, outcome
from support.registry import GUID, Clock, framed, stub_registry

SECRET = "s3cret-words"


@pytest.fixture
def stub():
    with stub_registry() as stub:
        yield stub


@pytest.fixture
def clock():
    return Clock(1000.0)


@pytest.fixture
def registry(stub, tmp_path, clock):
    registry = stub.registry(tmp_path, clock=clock)
    yield registry
    registry.close()


@pytest.fixture
def read(registry, tmp_path):
    return reader("registry", "value", registry, tmp_path)


def refused(read, data, *more):
    with pytest.raises(Rejected) as caught:
        read(data, *more)
    assert caught.value.stage == "decode"
    return caught.value.code, caught.value.reason


def waits(read, data, match):
    with pytest.raises(RegistryUnavailable, match=match):
        read(data)


def test_a_schema_is_asked_for_once(stub, read):
    stub.add(7, '"long"')
    assert read(framed(7, b"\x02")) == 1
    assert read(framed(7, b"\x04")) == 2
    assert stub.paths() == ["/schemas/ids/7"]


def test_references_are_asked_for_by_subject_and_version_and_stand_in_order(stub, registry):
    stub.add(1, "a", "PROTOBUF", [("b.proto", "shop/b value", 2), ("c.proto", "c", 1)])
    stub.add_version("shop/b value", 2, "b", "PROTOBUF", [("c.proto", "c", 1)])
    stub.add_version("c", 1, "c", "PROTOBUF")
    assert [each.name for each in registry.schema(1).references] == ["c.proto", "b.proto"]
    assert stub.paths() == ["/schemas/ids/1", "/subjects/shop%2Fb%20value/versions/2", "/subjects/c/versions/1"]


def test_schemas_that_refer_to_each_other_end(stub, registry):
    stub.add(1, "a", "PROTOBUF", [("b", "b", 1)])
    stub.add_version("b", 1, "b", "PROTOBUF", [("b", "b", 1)])
    assert [each.name for each in registry.schema(1).references] == ["b"]


def test_json_schema_is_plain_json_behind_the_id(stub, read):
    stub.add(3, {"type": "object"}, "JSON")
    assert read(framed(3, b'{"a": "\xc3\xa9"}')) == {"a": "é"}
    assert refused(read, framed(3, b"{"))[0] == "not_json"


def test_an_id_in_a_header_reads_what_is_not_framed(stub, read):
    assert read.header == "__value_schema_id"
    stub.add(GUID, '"string"')
    stub.add(7, '"long"')
    assert read(b"\x02a", b"\1" + GUID.bytes) == "a"
    assert read(b"\x02", b"\0\0\0\0\7") == 1
    assert refused(read, b"\x02a", b"\2abc")[0] == "not_framed"
    assert stub.paths() == [f"/schemas/guids/{GUID}", "/schemas/ids/7"]


@pytest.mark.parametrize(
    ("status", "body", "match"),
    [
        (500, b"", "answers HTTP 500"),
        (503, b"", "answers HTTP 503"),
        (429, b"", "answers HTTP 429"),
        (302, b"", "answers HTTP 302"),
        (422, {"error_code": 42201}, "answers HTTP 422"),
        (404, b"<html>", "HTTP 404, and not as a schema registry does: check the path"),
        (404, {"error_code": 404, "message": "HTTP 404 Not Found"}, "check the path"),
        (200, b"<html>", "is no schema registry"),
        (200, {"subject": "a"}, "is no schema registry"),
        (401, b"", "HTTP 401: set registry.user and registry.password_file"),
        (403, b"", "HTTP 403: set registry.user"),
    ],
)
def test_trouble_of_the_registry_is_waited_out(stub, read, status, body, match):
    stub.add(7, '"long"')
    stub.failure = status, body
    waits(read, framed(7, b"\x02"), match)
    stub.failure = None
    assert read(framed(7, b"\x02")) == 1


def test_a_registry_that_is_busy_says_for_how_long(stub, read):
    stub.failure = 429, b"", ("Retry-After", "7")
    with pytest.raises(RegistryUnavailable) as caught:
        read(framed(7, b""))
    assert caught.value.retry_after == 7


def test_a_registry_that_is_away_or_slow_is_waited_for(stub, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"http://127.0.0.1:{server.getsockname()[1]}"
    away = Registry(free, tmp_path)
    waits(reader("registry", "value", away, tmp_path), framed(7, b""), f"{free} does not answer \\(ConnectError")
    monkeypatch.setattr("embedstream.decode.registry._TIMEOUT", httpx.Timeout(0.05))
    stub.slow = 0.5
    waits(reader("registry", "value", stub.registry(tmp_path), tmp_path), framed(7, b""), "ReadTimeout")


def test_a_schema_that_comes_late_is_read(stub, read, clock):
    waits(read, framed(7, b"\x02"), "does not know schema 7 yet")
    clock.now += SECONDS_UNKNOWN - 1
    waits(read, framed(7, b"\x02"), "yet")
    stub.add(7, '"long"')
    assert read(framed(7, b"\x02")) == 1


def test_a_schema_that_stays_unknown_is_a_reason_to_refuse_and_costs_no_more_requests(stub, read, clock):
    waits(read, framed(7, b"\x02"), "yet")
    clock.now += SECONDS_UNKNOWN
    code, reason = refused(read, framed(7, b"\x02"))
    assert code == "schema_unknown"
    assert f"{stub.url} does not know schema 7" in reason
    before = len(stub.requests)
    for _ in range(5):
        refused(read, framed(7, b"\x02"))
    assert len(stub.requests) == before
    clock.now += SECONDS_IN_VAIN
    stub.add(7, '"long"')
    assert read(framed(7, b"\x02")) == 1


def unknowing(clock):
    answer = httpx.MockTransport(lambda _: httpx.Response(404, json={"error_code": 40403}))
    return Registry("http://registry", Path(), transport=answer, clock=clock)


def test_many_unknown_ids_do_not_hold_up_the_topic(clock):
    """Bytes that only look framed, of a topic that holds something else."""
    read = reader("registry", "value", unknowing(clock), Path())
    begin = clock.now
    for id in range(1, 60):
        while True:
            try:
                read(framed(id, b""))
            except RegistryUnavailable:
                clock.now += 0.1
            except Rejected:
                break
    assert clock.now - begin < 2.5 * SECONDS_UNKNOWN


def test_the_patience_comes_back(read, clock):
    waits(read, framed(1, b""), "yet")
    clock.now += SECONDS_UNKNOWN
    refused(read, framed(1, b""))
    clock.now += SECONDS_IN_VAIN
    waits(read, framed(2, b""), "yet")
    clock.now += SECONDS_UNKNOWN - 1
    waits(read, framed(2, b""), "yet")


def test_what_is_remembered_of_unknown_ids_has_a_bound(clock):
    registry = unknowing(clock)
    registry._unknown._seconds = 0.0
    registry._unknown._in_vain_at = clock.now
    for id in range(1, MOST_UNKNOWN + 50):
        registry._unknown.is_up(id)
    assert len(registry._unknown._settled) == MOST_UNKNOWN


def test_a_reference_that_is_gone_makes_its_schema_unknown(stub, read, clock):
    stub.add(7, '"long"', references=[("a", "a", 1)])
    stub.answers["/subjects/a/versions/1"] = 404, {"error_code": 40401}
    waits(read, framed(7, b"\x02"), "yet")
    clock.now += SECONDS_UNKNOWN
    assert refused(read, framed(7, b"\x02"))[0] == "schema_unknown"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{", "AVRO"),
        ('"no.such.Type"', "AVRO"),
        ('{"type": "record", "name": "R"}', "AVRO"),
        ("mesage", "PROTOBUF"),
        ('import "absent.proto";', "PROTOBUF"),
        ("<xs:schema/>", "XML"),
    ],
)
def test_a_schema_that_cannot_be_used_is_found_out_once(stub, read, text, kind):
    stub.add(7, text, kind)
    code, reason = refused(read, framed(7, b"\0"))
    assert code == "schema_unusable"
    assert reason.startswith("the value has schema 7 of the registry, which ")
    assert refused(read, framed(7, b"\0")) == (code, reason)
    assert stub.paths() == ["/schemas/ids/7"]


GLUE = b"\3\0" + bytes(range(16)) + b"abc"


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"", "nothing: it has zero bytes"),
        (b' {"a": 1}', "JSON: set its format to json"),
        (b"[1]", "JSON: set its format to json"),
        (b"hello", "plain text: set its format to text"),
        (GLUE, "the framing of AWS Glue's schema registry"),
        (b"\0" + (42).to_bytes(8) + b"abc", "Apicurio's own framing with an id of eight bytes"),
        ((42).to_bytes(8), "a 64-bit number: set its format to int64"),
        (b"\x1f\x8babc", "gzip"),
        (b"Obj\x01abc", "an Avro file"),
    ],
)
def test_what_is_not_framed_is_named(stub, read, data, form):
    code, reason = refused(read, data)
    assert code == "not_framed"
    assert f": it looks like {form}" in reason
    assert stub.requests == []


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\1", b"\x08\xff\x01", b"\x05\xff"])
def test_of_what_is_not_recognised_the_reason_names_the_header(read, data):
    code, reason = refused(read, data)
    assert code == "not_framed"
    assert "header __value_schema_id" in reason


def test_the_key_has_its_own_words(registry, tmp_path):
    read = reader("registry", "key", registry, tmp_path)
    assert read.header == "__key_schema_id"
    assert refused(read, b"hello")[1].startswith("the key does not begin")


def secret_file(directory, text=SECRET):
    (directory / "secret").write_text(f"{text}\n")
    return "secret"


def test_a_user_logs_in_with_the_password_of_the_file(stub, tmp_path):
    stub.add(7, '"long"')
    access = RegistryAccess(url=f"{stub.url}/", user="me", password_file=secret_file(tmp_path))
    registry = stub.registry(tmp_path, access)
    registry.schema(7)
    expected = base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert stub.requests == [("/schemas/ids/7", f"Basic {expected}")]


def test_a_token_is_read_anew_at_each_request(stub, tmp_path):
    stub.failure = 401, b""
    access = RegistryAccess(url=stub.url, token_file=secret_file(tmp_path))
    registry = stub.registry(tmp_path, access)
    waits(registry.schema, 7, "check the token in registry.token_file")
    secret_file(tmp_path, "renewed")
    stub.failure = None
    stub.add(7, '"long"')
    registry.schema(7)
    assert [login for _, login in stub.requests] == [f"Bearer {SECRET}", "Bearer renewed"]
    (tmp_path / "secret").unlink()
    waits(registry.schema, 8, "registry.token_file: .* cannot be read")


def test_no_secret_is_shown(stub, tmp_path):
    access = RegistryAccess(url=stub.url, user="me", password_file=secret_file(tmp_path))
    registry = stub.registry(tmp_path, access)
    shown = [repr(registry), str(vars(registry)), repr(access), repr(vars(registry._http._auth))]
    for status in (401, 500):
        stub.failure = status, b""
        with pytest.raises(RegistryUnavailable) as caught:
            registry.schema(7)
        shown += [str(caught.value), repr(caught.value)]
    assert not [text for text in shown if SECRET in text]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "registry:8081"}, "no http:// or https:// URL"),
        ({"url": "http://"}, "no http:// or https:// URL"),
        ({"url": "http://registry:99999"}, "no http:// or https:// URL"),
        ({"url": f"http://me:{SECRET}@registry"}, "holds a user or a password"),
        ({"url": "http://registry/?a=1"}, "query"),
        ({"url": "http://registry", "user": "me"}, "belong together"),
        ({"url": "http://registry", "password_file": "p"}, "belong together"),
        ({"url": "http://registry", "user": "me", "password_file": "p", "token_file": "t"}, "two ways to log in"),
    ],
)
def test_what_cannot_lead_to_a_registry_is_refused_without_its_secrets(fields, says, tmp_path):
    with pytest.raises(ValidationError, match=says) as caught:
        RegistryAccess(**fields)
    assert SECRET not in str(caught.value)
    if fields.keys() == {"url"}:
        with pytest.raises(ConfigError, match=says) as refused:
            Registry(fields["url"], tmp_path)
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"token_file": "absent"}, "registry.token_file: .*absent cannot be read"),
        ({"user": "me", "password_file": "absent"}, "registry.password_file: .*absent cannot be read"),
        ({"ca_file": "absent"}, "registry.ca_file: .*absent"),
        ({"ca_file": "secret"}, "registry.ca_file: .*secret"),
    ],
)
def test_files_that_cannot_be_read_stop_at_the_start(tmp_path, fields, says):
    secret_file(tmp_path)
    with pytest.raises(ConfigError, match=says) as caught:
        Registry(RegistryAccess(**({"url": "https://registry"} | fields)), tmp_path)
    assert SECRET not in str(caught.value)


RECORD = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "t", "type": ["null", "string"]},
        {"name": "l", "type": {"type": "array", "items": "R"}},
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "scale": 2}},
    ],
}
PROTO = """syntax = "proto3";
message A { string a = 1; repeated A b = 2; map<int32, A> c = 3; message B { bytes d = 1; } }
"""


@pytest.fixture(scope="module")
def read_any(tmp_path_factory):
    directory = tmp_path_factory.mktemp("any")
    with stub_registry() as stub:
        stub.add(1, RECORD)
        stub.add(2, PROTO, "PROTOBUF")
        stub.add(3, {}, "JSON")
        yield reader("registry", "value", stub.registry(directory), directory)


@settings(deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"\0", b"\0\0\0\0\1", b"\0\0\0\0\2", b"\0\0\0\0\2\0", b"\0\0\0\0\2\4\0\0", b"\0\0\0\0\3"]
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_are_plain_values_or_refused_or_waited_for(read_any, start, rest):
    found = outcome(read_any, start + rest)
    assert is_plain(found) or isinstance(found, Rejected) or (isinstance(found, RetryLater) and start in (b"", b"\0"))


@given(identified=st.binary(max_size=30))
def test_any_bytes_of_a_header_are_an_id_or_refused(identified):
    known = {"schema": '"string"'}
    registry = Registry(
        "http://registry", Path(), transport=httpx.MockTransport(lambda _: httpx.Response(200, json=known))
    )
    read = reader("registry", "value", registry, Path())
    found = outcome(read, b"\x02a", identified)
    assert found == "a" or found.code in ("not_framed", "bad_avro")


def test_a_guid_that_there_is_no_page_for_is_unknown(stub, read, clock):
    """Apicurio knows none, and answers as for any address that it does not have."""
    stub.failure = 404, b""
    with pytest.raises(RegistryUnavailable, match="does not know schema"):
        read(b"", b"\1" + GUID.bytes)
    clock.now += SECONDS_UNKNOWN
    assert refused(read, b"", b"\1" + GUID.bytes)[0] == "schema_unknown"
