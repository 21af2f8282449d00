"""Debezium's change events as Kafka Connect's converter for Avro writes them, which cannot run here.

Schemas and events have the shape that was recorded from Debezium 3.6.1; what Connect's schemas are in Avro follows
https://docs.confluent.io/platform/current/schema-registry/connect.html (AvroData).
"""

import base64
import copy
import itertools
import time

from support.avro import AvroWriter
from support.recorded import RECORDS

KEY, VALUE = RECORDS["schemas.create"]["key"], RECORDS["schemas.create"]["value"]
UNAVAILABLE = "__debezium_unavailable_value"
DECIMAL = "org.apache.kafka.connect.data.Decimal"
PRIMITIVES = {
    "int8": "int", "int16": "int", "int32": "int", "int64": "long", "float32": "float", "float64": "double",
    "boolean": "boolean", "string": "string", "bytes": "bytes",
}  # fmt: skip


def avro_schema(schema, known=None):
    """What a schema of Connect is in Avro; a record that was there already is named again."""
    known = set() if known is None else known
    node = _avro(schema, known)
    if not schema["optional"]:
        return node
    return [node, "null"] if schema.get("default") is not None else ["null", node]


def _avro(schema, known):
    kind, name = schema["type"], schema.get("name")
    if kind == "array":
        return {"type": "array", "items": avro_schema(schema["items"], known)}
    if kind == "struct":
        return name if name in known else _record(schema, name or "io.confluent.connect.avro.ConnectDefault", known)
    said = {"type": PRIMITIVES[kind], **_connect(schema)}
    if name == DECIMAL:
        parameters = schema["parameters"]
        said |= {"scale": int(parameters["scale"]), "precision": int(parameters["connect.decimal.precision"])}
        said["logicalType"] = "decimal"
    return said if len(said) > 1 else said["type"]


def _record(schema, name, known):
    known.add(name)
    namespace, _, short = name.rpartition(".")
    fields = [_field(field, known) for field in schema["fields"]]
    return {"type": "record", "name": short, "namespace": namespace, "fields": fields, **_connect(schema)}


def _field(schema, known):
    field = {"name": schema["field"], "type": avro_schema(schema, known)}
    return field | {"default": schema.get("default")} if schema["optional"] else field


def _connect(schema):
    names = ("name", "version", "doc", "parameters", "default")
    return {f"connect.{name}": schema[name] for name in names if name in schema}


def avro_value(schema, payload):
    """A value as Connect's JSON has it, for the schema in Avro."""
    if payload is None:
        return None
    if schema["type"] == "bytes":
        return base64.b64decode(payload)
    if schema["type"] == "array":
        return [avro_value(schema["items"], item) for item in payload]
    if schema["type"] == "struct":
        return {field["field"]: avro_value(field, payload.get(field["field"])) for field in schema["fields"]}
    return payload


class Debezium:
    """Change events of one table; `register(part, schema)` gives the id of a schema of `key` or `value`."""

    def __init__(self, register):
        self._register = register
        self._schema = copy.deepcopy(VALUE["schema"])
        self._lsn = itertools.count(28_355_944, 56)
        self._write_key = AvroWriter(avro_schema(KEY["schema"]), register("key", avro_schema(KEY["schema"])))
        self._write = self._writer()

    def _writer(self):
        schema = avro_schema(self._schema)
        return AvroWriter(schema, self._register("value", schema))

    def add_column(self, name):
        """One of text that may be null."""
        for field in self._schema["fields"]:
            if field["field"] in ("before", "after"):
                field["fields"].append({"type": "string", "optional": True, "field": name})
        self._write = self._writer()

    def key(self, id):
        return self._write_key({"id": id})

    def change(self, op, before=None, after=None, snapshot="false"):
        now, lsn = time.time_ns(), next(self._lsn)
        times = {"ts_ms": now // 1_000_000, "ts_us": now // 1000, "ts_ns": now}
        source = {**VALUE["payload"]["source"], **times, "snapshot": snapshot, "lsn": lsn}
        payload = {**times, "before": before, "after": after, "source": source, "transaction": None, "op": op}
        return self._write(avro_value(self._schema, payload))
