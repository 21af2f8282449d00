"""Avro, by the schema that it was written with.

Values come as JSON would have them. A union is its value, an enum its symbol, `bytes` and `fixed` are base64. Logical
types, Avro's own as well as those that Kafka Connect and Debezium mark by `connect.name` alone, become strings:

- moments since the epoch ISO 8601 in UTC, `2026-01-02T01:04:05.123456Z`, with the digits of their unit; `local-...`
  moments without the Z. Debezium counts columns without a zone as if they were UTC: so they have a Z, too;
- dates `2026-01-02`, times of day `01:04:05.123`;
- decimals all their digits, `-12.50`: never rounded, never with an exponent.

A number that is none of these, as PostgreSQL's infinite dates are, stays a number. Debezium's and Connect's strings
(zoned timestamps, JSON, UUIDs) stay what they are, and so do intervals.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import fastavro
from fastavro import _read_py
from fastavro.read import LOGICAL_READERS

from embedstream.decode.plain import (
    MICROS,
    MILLIS,
    NANOS,
    base64_text,
    date_text,
    decimal_text,
    float32,
    time_text,
    timestamp_text,
)
from embedstream.decode.schema import Unreadable, Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from embedstream.decode.schema import Decoder, Schema

    Node: TypeAlias = Any
    LogicalReader: TypeAlias = Callable[[Any, Any, object], object]


_MOST_DIGITS = 4000
_PREFIX = "embedstream."
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_CONNECT, _DEBEZIUM = "org.apache.kafka.connect.data.", "io.debezium.time."
_VARIABLE_SCALE = "io.debezium.data.VariableScaleDecimal"

# What each name, be it a logical type or a connect.name, means on the type that it is made of.
_MEANINGS = {
    ("int", "date"): "date",
    ("int", f"{_CONNECT}Date"): "date",
    ("int", f"{_DEBEZIUM}Date"): "date",
    ("int", "time-millis"): "time-millis",
    ("int", f"{_CONNECT}Time"): "time-millis",
    ("int", f"{_DEBEZIUM}Time"): "time-millis",
    ("long", "time-micros"): "time-micros",
    ("long", f"{_DEBEZIUM}MicroTime"): "time-micros",
    ("long", f"{_DEBEZIUM}NanoTime"): "time-nanos",
    ("long", "timestamp-millis"): "timestamp-millis",
    ("long", f"{_CONNECT}Timestamp"): "timestamp-millis",
    ("long", f"{_DEBEZIUM}Timestamp"): "timestamp-millis",
    ("long", "timestamp-micros"): "timestamp-micros",
    ("long", f"{_DEBEZIUM}MicroTimestamp"): "timestamp-micros",
    ("long", "timestamp-nanos"): "timestamp-nanos",
    ("long", f"{_DEBEZIUM}NanoTimestamp"): "timestamp-nanos",
    ("long", "local-timestamp-millis"): "local-timestamp-millis",
    ("long", "local-timestamp-micros"): "local-timestamp-micros",
    ("long", "local-timestamp-nanos"): "local-timestamp-nanos",
    ("bytes", "decimal"): "decimal",
    ("fixed", "decimal"): "decimal",
    ("bytes", f"{_CONNECT}Decimal"): "decimal",
    ("fixed", "uuid"): "uuid",
    ("record", _VARIABLE_SCALE): "variable-scale-decimal",
}
_UNNAMED = {"bytes": "base64", "fixed": "base64", "float": "float32"}


def compile_avro(schema: Schema) -> Decoder:
    """Raises Unusable."""
    LOGICAL_READERS.update(_READERS)
    with _refusals():
        parsed, named = _parse(schema)
        is_recursive = _is_recursive(parsed, named, frozenset(), set())
    # The compiled one follows the bytes of a recursive schema without any bound, until the stack ends the process.
    return _decoder(_read_py.schemaless_reader if is_recursive else fastavro.schemaless_reader, parsed)


def parsed_avro(schema: Schema) -> tuple[Node, dict[str, Node]]:
    """A schema as fastavro has it, and its named types by their full names; raises Unusable."""
    with _refusals():
        parsed, named = _parse(schema)
    return parsed["fields"][0]["type"], named


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise Unusable("nests too deep") from None
    except (ValueError, TypeError, KeyError, AttributeError, fastavro.schema.SchemaParseException) as exc:
        raise Unusable(f"is no Avro schema ({type(exc).__name__}: {exc})") from exc


def _decoder(read: Callable[..., Any], parsed: Node) -> Decoder:
    def decode(data: bytes, start: int) -> object:
        stream = BytesIO(data)
        stream.seek(start)
        record = read(stream, parsed, None)
        if left := len(data) - stream.tell():
            raise Unreadable(f"goes on for {left} bytes where its schema ends")
        return record["value"]

    return decode


def _parse(schema: Schema) -> tuple[Node, dict[str, Node]]:
    """The schema inside of a record, which adds no byte: so it can be of any type, and is never parsed again."""
    named: dict[str, Node] = {}
    for reference in schema.references:
        fastavro.parse_schema(_record(reference.name, _rewritten(json.loads(reference.text))), named)
    return fastavro.parse_schema(_record("value", _rewritten(json.loads(schema.text))), named), named


def _record(of: str, node: Node) -> Node:
    name = f"embedstream_{of.encode().hex()}"
    return {"type": "record", "name": name, "fields": [{"name": "value", "type": node}]}


def _rewritten(node: Node) -> Node:
    """With logical types of our own, and without what reading does not need."""
    if isinstance(node, list):
        return [_rewritten(item) for item in node]
    if isinstance(node, str):
        return {"type": node, "logicalType": _PREFIX + _UNNAMED[node]} if node in _UNNAMED else node
    kind = node["type"]
    if not isinstance(kind, str):
        return _rewritten(kind)
    plain = {name: node[name] for name in ("type", "name", "namespace", "size", "symbols") if name in node}
    return plain | _inside(kind, node) | _logical(kind, node) if kind in _PARTS else kind


def _inside(kind: str, node: Node) -> Node:
    part = _PARTS[kind]
    if part != "fields":
        return {part: _rewritten(node[part])} if part else {}
    raw = node.get("connect.name") == _VARIABLE_SCALE
    return {
        "fields": [
            {"name": field["name"], "type": field["type"] if raw else _rewritten(field["type"])}
            for field in node["fields"]
        ]
    }


def _logical(kind: str, node: Node) -> Node:
    names = (node.get("connect.name"), node.get("logicalType"))
    meaning = next((_MEANINGS[kind, name] for name in names if (kind, name) in _MEANINGS), _UNNAMED.get(kind))
    if meaning is None:
        return {}
    return {"logicalType": _PREFIX + meaning} | ({"scale": _scale(node)} if meaning == "decimal" else {})


def _scale(node: Node) -> int:
    scale = int(node.get("scale", node.get("connect.parameters", {}).get("scale", 0)))
    if abs(scale) > _MOST_DIGITS:
        raise ValueError("the scale of a decimal is out of all reason")
    return scale


def _is_recursive(node: Node, named: Mapping[str, Node], path: frozenset[str], done: set[str]) -> bool:
    """Whether values can nest without end.

    Raises Unusable where a few bytes can stand for any number of values.
    """
    node = _resolved(node, named)
    name = node.get("name") if isinstance(node, dict) else None
    if name in path:
        return True
    if name in done:
        return False
    if isinstance(node, dict) and node["type"] == "array" and _is_empty(node["items"], named, frozenset()):
        raise Unusable("has an array whose items take no bytes: a few bytes could stand for any number of them")
    inner = path | {name} if name else path
    found = [_is_recursive(child, named, inner, done) for child in _children(node)]
    if name:
        done.add(name)
    return any(found)


def _is_empty(node: Node, named: Mapping[str, Node], path: frozenset[str]) -> bool:
    node = _resolved(node, named)
    if not isinstance(node, dict):
        return bool(node == "null")
    if node["type"] in ("record", "error"):
        inner = path | {node["name"]}
        return node["name"] in path or all(_is_empty(child, named, inner) for child in _children(node))
    return node["type"] == "null" or node.get("size") == 0


def _resolved(node: Node, named: Mapping[str, Node]) -> Node:
    return named.get(node, node) if isinstance(node, str) else node


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, list):
        yield from node
    elif isinstance(node, dict):
        yield from (field["type"] for field in node.get("fields", ()))
        yield from (node[part] for part in ("items", "values") if part in node)


def _variable_scale(value: Any) -> str:  # noqa: ANN401 - what the schema says
    if abs(value["scale"]) > _MOST_DIGITS:
        raise Unreadable("has a decimal whose scale is out of all reason")
    return decimal_text(value["value"], value["scale"])


_PARTS = dict.fromkeys((*_PRIMITIVES, "enum", "fixed"), "") | {
    "record": "fields",
    "error": "fields",
    "array": "items",
    "map": "values",
}
_UNITS = {"millis": MILLIS, "micros": MICROS, "nanos": NANOS}


def _times(unit: int) -> tuple[LogicalReader, LogicalReader, LogicalReader]:
    return (
        lambda value, _schema, _reader: time_text(value, unit),
        lambda value, _schema, _reader: timestamp_text(value, unit),
        lambda value, _schema, _reader: timestamp_text(value, unit, ""),
    )


def _readers() -> dict[str, LogicalReader]:
    """By the name that fastavro looks for: the type and the logical type."""
    by_meaning: dict[str, LogicalReader] = {
        "date": lambda value, _schema, _reader: date_text(value),
        "decimal": lambda value, schema, _reader: decimal_text(value, schema["scale"]),
        "uuid": lambda value, _schema, _reader: str(UUID(bytes=value)),
        "variable-scale-decimal": lambda value, _schema, _reader: _variable_scale(value),
    }
    for name, unit in _UNITS.items():
        by_meaning |= zip((f"time-{name}", f"timestamp-{name}", f"local-timestamp-{name}"), _times(unit), strict=True)
    unnamed: dict[str, LogicalReader] = {
        "base64": lambda value, _schema, _reader: base64_text(value),
        "float32": lambda value, _schema, _reader: float32(value),
    }
    named = {f"{kind}-{_PREFIX}{meaning}": by_meaning[meaning] for (kind, _), meaning in _MEANINGS.items()}
    return named | {f"{kind}-{_PREFIX}{meaning}": unnamed[meaning] for kind, meaning in _UNNAMED.items()}


_READERS = _readers()
