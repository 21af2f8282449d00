"""Formats by the schemas of a real registry, Apicurio's, as the embedded stack runs it."""

import base64
import io
import json
import shlex
import subprocess
import sys
from decimal import Decimal
from functools import cached_property
from types import SimpleNamespace

import fastavro
import httpx
import psutil
import pytest

from embedstream.decode.formats import reader
from embedstream.decode.protoc import ROOT, files_of_schema
from embedstream.decode.registry import Registry
from embedstream.decode.schema import Schema
from embedstream.decode.spec import Decoding
from embedstream.decode.unknown import SECONDS_UNKNOWN
from embedstream.doctor import registry as doctor
from embedstream.doctor.check import run
from embedstream.errors import RegistryUnavailable, Rejected
from embedstream.settings import load_settings
from support.registry import GUID, Clock, framed

LOCAL = [sys.executable, "-m", "embedstream.local"]

pytestmark = pytest.mark.timeout(600)


class RegistryStack:
    def __init__(self, directory):
        self.directory = directory

    def run(self, command, *options):
        done = subprocess.run(
            [*LOCAL, command, "--dir", self.directory, *options], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode()

    def up(self):
        self.run("up", "--only", "registry", "--detach")

    @cached_property
    def url(self):
        exported = shlex.split(self.run("env"))
        return next(word.partition("=")[2] for word in exported if word.startswith("SCHEMA_REGISTRY_URL="))

    def register(self, subject, schema, type="AVRO", references=()):  # noqa: A002 - the registry's word
        body = {"schema": schema, "schemaType": type, "references": list(references)}
        response = httpx.post(f"{self.url}/subjects/{subject}/versions", json=body, trust_env=False)
        response.raise_for_status()
        return response.json()["id"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    subprocess.run([sys.executable, "-m", "embedstream.jars", "registry"], check=True, timeout=500)  # 158 MB, once
    stack = RegistryStack(tmp_path_factory.mktemp("stack"))
    stack.up()
    yield stack
    stack.run("down")


@pytest.fixture
def clock():
    return Clock(0.0)


@pytest.fixture
def read(stack, tmp_path, clock):
    registry = Registry(stack.url, tmp_path, clock=clock)
    yield reader("registry", "value", registry, tmp_path)
    registry.close()


MONEY = {
    "type": "record",
    "name": "Money",
    "namespace": "shop",
    "fields": [{"name": "units", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}],
}
ARTICLE = {
    "type": "record",
    "name": "Article",
    "namespace": "shop",
    "fields": [
        {"name": "title", "type": ["null", "string"], "default": None},
        {"name": "price", "type": "shop.Money"},
        {"name": "made_at", "type": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}},
    ],
}


def test_avro_with_a_reference(stack, read):
    stack.register("money-value", json.dumps(MONEY))
    reference = {"name": "shop.Money", "subject": "money-value", "version": 1}
    id = stack.register("article-value", json.dumps(ARTICLE), references=[reference])
    named = {}
    fastavro.parse_schema(MONEY, named)
    stream = io.BytesIO()
    article = {"title": "é", "price": {"units": Decimal("12.34")}, "made_at": 1767323045123456}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(ARTICLE, named), article)
    assert read(framed(id, stream.getvalue())) == {
        "title": "é",
        "price": {"units": "12.34"},
        "made_at": "2026-01-02T03:04:05.123456Z",
    }


COMMON = 'syntax = "proto3"; package common; message Money { int64 units = 1; }'
TICKET = """syntax = "proto3";
package shop.v1;
import "common/money.proto";
import "google/protobuf/timestamp.proto";
message Ticket {
  map<string, string> labels = 1;
  message Line { string text = 1; common.Money price = 2; google.protobuf.Timestamp at = 3; }
}
"""
LINE = b"\x0a\x01a" + b"\x12\x02\x08\x05" + b"\x1a\x02\x08\x01"


def test_protobuf_with_a_reference_under_a_subject_with_a_slash(stack, read):
    stack.register("common%2Fmoney.proto", COMMON, "PROTOBUF")
    reference = {"name": "common/money.proto", "subject": "common/money.proto", "version": 1}
    id = stack.register("ticket-value", TICKET, "PROTOBUF", [reference])
    assert read(framed(id, b"\x04\0\0" + LINE)) == {
        "text": "a",
        "price": {"units": 5},
        "at": "1970-01-01T00:00:01Z",
    }
    with pytest.raises(Rejected, match=r"bad_protobuf.*names message 7"):
        read(framed(id, b"\x02\x0e"))


def test_protobuf_that_was_registered_as_pythons_producers_do(stack, read):
    text = 'syntax = "proto3"; message Plain { string text = 1; }'
    file = files_of_schema(Schema("PROTOBUF", text))[ROOT]
    id = stack.register("plain-value", base64.b64encode(file.SerializeToString()).decode(), "PROTOBUF")
    assert read(framed(id, b"\0\x0a\x01a")) == {"text": "a"}


def test_json_schema(stack, read):
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "title": "T"}
    id = stack.register("json-value", json.dumps(schema), "JSON")
    assert read(framed(id, '{"text": "é"}'.encode())) == {"text": "é"}


def test_doctor_looks_at_the_topic_s_latest_schema(stack):
    def look(**mapping):
        decoding = Decoding(format="registry", registry=stack.url, **mapping)
        world = SimpleNamespace(settings=load_settings(kafka_input_topic="looked-at", decoding=decoding))
        return [(each.state, each.fact) for each in run([each._replace(needs=()) for each in doctor.CHECKS], world)]

    _, missing, unknown = look(text="value.title")
    assert missing == ("warn", f"{stack.url} has no subject looked-at-value")
    assert unknown[0] == "skipped"
    for fields in (["title"], ["title", "body"]):
        article = {
            **ARTICLE,
            "fields": [{"name": name, "type": ["null", "string"], "default": None} for name in fields],
        }
        stack.register("looked-at-value", json.dumps(article))
    assert [state for state, _ in look(text=["value.title", "value.body"])] == ["ok"] * 3
    fact = "version 2 of looked-at-value has no field titel (did you mean title?), read by value.titel"
    assert look(text="value.titel")[2] == ("warn", fact)


@pytest.mark.parametrize("header", [None, b"\1" + GUID.bytes])
def test_what_it_does_not_know_is_refused_after_a_while(read, clock, header):
    with pytest.raises(RegistryUnavailable, match=r"does not know schema .* yet"):
        read(framed(4711, b""), header)
    clock.now += SECONDS_UNKNOWN
    with pytest.raises(Rejected, match="schema_unknown"):
        read(framed(4711, b""), header)


def test_it_listens_on_loopback_alone_and_keeps_its_schemas_over_a_restart(stack):
    id = stack.register("kept-value", '"string"')
    [part] = json.loads(stack.run("status", "--json"))["parts"]
    assert (part["name"], part["address"]) == ("registry", stack.url)
    listening = [each for each in psutil.Process(part["pid"]).net_connections("inet") if each.status == "LISTEN"]
    assert {each.laddr.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}
    stack.run("down")
    assert not psutil.pid_exists(part["pid"])
    stack.up()
    assert httpx.get(f"{stack.url}/schemas/ids/{id}", trust_env=False).json()["schema"] == '"string"'
