"""Doctor's questions to a schema registry, and what a mapping reads beside what is registered."""

import json
from types import SimpleNamespace

import pytest

from embedstream.decode.schema import Reference, Schema
from embedstream.decode.schema_fields import field_names
from embedstream.decode.spec import Decoding, Formats
from embedstream.doctor import registry
from embedstream.doctor.check import run
from embedstream.settings import load_settings
from support.registry import stub_registry

TICKET = {
    "type": "record",
    "name": "Ticket",
    "fields": [
        {"name": "title", "type": "string"},
        {"name": "body", "type": ["null", "string"]},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
    ],
}
CHANGE = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {"name": "before", "type": ["null", {**TICKET, "name": "Value"}]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string"},
    ],
}
ID = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}


@pytest.fixture
def stub():
    with stub_registry() as stub:
        stub.answers["/schemas/types"] = 200, ["AVRO", "JSON"]
        yield stub


@pytest.fixture
def look(stub):
    """The findings for a mapping, by the last part of their names."""

    def look(key="text", **mapping):
        decoding = Decoding(format=Formats(key=key, value="registry"), registry=stub.url, **mapping)
        world = SimpleNamespace(settings=load_settings(kafka_input_topic="tickets", decoding=decoding))
        checks = [each._replace(needs=()) for each in registry.CHECKS]
        return {each.check.rpartition(".")[2]: each for each in run(checks, world)}

    return look


def test_a_mapping_that_reads_what_is_registered(stub, look):
    stub.add_version("tickets-value", "latest", TICKET)
    stub.answers["/subjects/tickets-value/versions/latest"][1]["version"] = 3
    found = look(text=["value.title", "value.body"], metadata={"lang": "value.labels.lang"})
    assert [each.state for each in found.values()] == ["ok"] * 3
    assert found["registry"].fact == f"{stub.url} knows schemas of AVRO, JSON"
    assert found["subjects"].fact == f"{stub.url} has tickets-value"
    assert found["fields"].fact == "version 3 of tickets-value has the fields that the mapping reads"


def test_a_field_that_the_latest_schema_lacks_is_named_with_its_expressions(stub, look):
    stub.add_version("tickets-value", "latest", TICKET)
    found = look(text="value.titel", metadata={"n": "length(value.titel || value.x.y)"}, where="event.op != 'r'")
    assert found["subjects"].state == "ok"
    fact = found["fields"].fact
    assert found["fields"].state == "warn"
    assert "has no field titel (did you mean title?), read by value.titel and length(value.titel || value.x.y)" in fact
    assert "has no field x, read by length(value.titel || value.x.y)" in fact
    assert "\n" not in str(found["fields"])


def test_a_topic_whose_subjects_have_other_names_is_a_warning(stub, look):
    found = look(key="registry", text="value.titel")
    assert found["registry"].state == "ok"
    assert found["subjects"].state == "warn"
    assert found["subjects"].fact == f"{stub.url} has no subject tickets-value and no subject tickets-key"
    assert "names subjects otherwise" in found["subjects"].remedy
    assert found["fields"].state == "skipped"


def test_the_key_is_looked_at_where_it_is_framed(stub, look):
    stub.add_version("tickets-value", "latest", TICKET)
    stub.add_version("tickets-key", "latest", ID)
    assert look(key="registry", id="key.id", text="value.title")["fields"].state == "ok"
    assert (
        "tickets-key has no field nr, read by key.nr"
        in look("registry", id="key.nr", text="value.title")["fields"].fact
    )
    assert look(id="key.nr", text="value.title")["fields"].state == "ok"


def test_the_rows_of_a_change_are_those_of_its_envelope(stub, look):
    stub.add_version("tickets-value", "latest", CHANGE)
    assert look(envelope="debezium", text="value.title", metadata={"op": "event.op"})["fields"].state == "ok"
    assert "has no field op, read by value.op" in look(envelope="debezium", text="value.op")["fields"].fact
    assert look(text="value.after.title", metadata={"op": "value.op"})["fields"].state == "ok"
    assert look(envelope="maxwell", text="value.x")["fields"].state == "skipped"


@pytest.mark.parametrize(
    ("status", "match"), [(401, "HTTP 401: set registry.user"), (403, "HTTP 403"), (503, "HTTP 503")]
)
def test_a_registry_that_refuses_is_a_failure_in_its_own_words(stub, look, status, match):
    stub.failure = status, b""
    found = look(text="value.title")
    assert found["registry"].state == "FAIL"
    assert match in found["registry"].fact
    assert (found["subjects"].state, found["fields"].state) == ("warn", "skipped")


def test_what_cannot_be_used_is_told(stub, look):
    stub.add_version("tickets-value", "latest", '{"type": "nonsense"}')
    found = look(text="value.title")["fields"]
    assert found.state == "FAIL"
    assert "of tickets-value is no Avro schema" in found.fact


def test_a_mapping_without_a_registry_is_asked_nothing():
    world = SimpleNamespace(settings=load_settings(decoding=Decoding(text="value.title")))
    found = run([each._replace(needs=()) for each in registry.CHECKS], world)
    assert [each.state for each in found] == ["ok"] * 3


def avro(schema, *references):
    return Schema("AVRO", json.dumps(schema), tuple(Reference(name, json.dumps(text)) for name, text in references))


def json_schema(**schema):
    return Schema("JSON", json.dumps(schema))


PROTO = """syntax = "proto3";
package shop;
import "google/protobuf/struct.proto";
message Change {
  message Row { string title = 1; }
  Row after = 1;
  string op = 2;
  map<string, string> m = 3;
  google.protobuf.Struct s = 4;
  repeated Row rows = 5;
}
message Other { string other = 1; }
"""
ROW = {"type": "object", "properties": {"title": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "inside", "names"),
    [
        (avro(TICKET), None, {"title", "body", "labels"}),
        (avro(TICKET), "labels", None),
        (avro(TICKET), "body", set()),
        (avro(TICKET), "after", None),
        (avro(CHANGE), "after", {"title", "body", "labels"}),
        (avro(["null", TICKET, ID]), None, {"title", "body", "labels", "id"}),
        (avro(["shop.Key", "null"], ("shop.Key", {**ID, "namespace": "shop"})), None, {"id"}),
        (avro("string"), None, set()),
        (avro({"type": "map", "values": "long"}), None, None),
        (Schema("PROTOBUF", PROTO), None, {"after", "op", "m", "s", "rows", "other"}),
        (Schema("PROTOBUF", PROTO), "after", {"title"}),
        (Schema("PROTOBUF", PROTO), "op", set()),
        (Schema("PROTOBUF", PROTO), "rows", set()),
        (Schema("PROTOBUF", PROTO), "m", None),
        (Schema("PROTOBUF", PROTO), "s", None),
        (json_schema(**ROW), None, {"title"}),
        (json_schema(type="object"), None, None),
        (json_schema(type="string"), None, set()),
        (json_schema(type=["null", "object"]), None, None),
        (json_schema(allOf=[ROW]), None, None),
        (json_schema(**ROW, patternProperties={}), None, None),
        (json_schema(properties={"after": {"oneOf": [{"type": "null"}, ROW]}}), "after", {"title"}),
        (json_schema(definitions={"a/b": ROW}, **{"$ref": "#/definitions/a~1b"}), None, {"title"}),
        (json_schema(**{"$ref": "other.json"}), None, None),
        (json_schema(**{"$ref": "#"}), None, None),
        (Schema("JSON", "true"), None, None),
    ],
)
def test_which_fields_a_schema_gives(schema, inside, names):
    found = field_names(schema, inside)
    assert found == (None if names is None else frozenset(names))
