"""The same messages in the shapes that topics have, and the pipeline that reads each."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import fastavro
from google.protobuf.message_factory import GetMessages

from embedstream.decode.decoder import build
from embedstream.decode.formats import reader
from embedstream.decode.message import Record, Rules
from embedstream.decode.protoc import files_of_schema
from embedstream.decode.schema import Schema
from embedstream.decode.spec import Decoding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.decode.message import Decode
    from embedstream.decode.registry import Registry

    Row = dict[str, Any]
    Write = Callable[[Row], bytes]

MAPPED: Row = {
    "id": "value.id",
    "text": ["value.title", "value.body"],
    "timestamp": "value.at",
    "source": "value.author",
    "metadata": {"number": "value.number", "kind": "value.kind"},
}
_DEBEZIUM = {**MAPPED, "envelope": "debezium"}
_FRAMED = {"format": "registry", "registry": "http://localhost"}
_FIELDS = {"id": "string", "title": "string", "body": "string", "author": "string", "kind": "string"}
_NUMBERS = {"at": "long", "number": "int"}
AVRO: Row = {
    "type": "record",
    "name": "Article",
    "fields": [{"name": name, "type": ["null", kind]} for name, kind in (_FIELDS | _NUMBERS).items()],
}
_CHANGE: Row = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {"name": "before", "type": ["null", AVRO], "default": None},
        {"name": "after", "type": ["null", "Article"], "default": None},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"]},
    ],
}
_PROTO = """syntax = "proto3";
message Article {
  string id = 1;
  string title = 2;
  string body = 3;
  string author = 4;
  string kind = 5;
  int64 at = 6;
  int32 number = 7;
}
"""
_SCHEMAS = {
    1: Schema("AVRO", json.dumps(AVRO)),
    2: Schema("PROTOBUF", _PROTO),
    3: Schema("JSON", '{"type": "object"}'),
    4: Schema("AVRO", json.dumps(_CHANGE)),
}


class Shape(NamedTuple):
    """How a row is written, and what reads it."""

    write: Write
    decode: Decode

    def records(self, rows: Sequence[Row]) -> list[Record]:
        return [
            Record(str(row["id"]).encode(), self.write(row), "articles", 0, offset, row["at"])
            for offset, row in enumerate(rows)
        ]


def rows(texts: Sequence[str]) -> list[Row]:
    return [
        {
            "id": f"article-{n}", "title": text[:40], "body": text, "author": "somebody", "kind": "prose",
            "at": 1_790_000_000_000 + n, "number": n,
        }
        for n, text in enumerate(texts)
    ]  # fmt: skip


def shapes(rules: Rules) -> dict[str, Shape]:
    """By name; `default` is what records without a pipeline file have."""
    made: dict[str, tuple[Row, Write]] = {
        "default": ({}, _default),
        "JSON, mapped": (MAPPED, _json),
        "JSON Schema, mapped": (MAPPED | _FRAMED, lambda row: _framed(3, _json(row))),
        "Avro, mapped": (MAPPED | _FRAMED, avro(1, AVRO)),
        "Protobuf, mapped": (MAPPED | _FRAMED, _protobuf()),
        "Debezium in JSON, mapped": (_DEBEZIUM, lambda row: _json(_change(row))),
        "Debezium in Avro, mapped": (_DEBEZIUM | _FRAMED, _debezium_avro()),
        "plain text": ({"format": "text", "text": "value"}, lambda row: str(row["body"]).encode()),
    }
    return {name: Shape(write, _decode(pipeline, rules)) for name, (pipeline, write) in made.items()}


class _Registry:
    """Knows its schemas by heart: none is asked for twice by a reader."""

    def schema(self, id: int) -> Schema:
        return _SCHEMAS[id]


def _decode(pipeline: Row, rules: Rules) -> Decode:
    decoding = Decoding.model_validate(pipeline)
    registry = cast("Registry", _Registry())
    key, value = (reader(getattr(decoding.formats, part), part, registry, Path()) for part in ("key", "value"))
    return build(decoding, rules, key, value)


def _default(row: Row) -> bytes:
    metadata = {name: row[name] for name in ("number", "kind")}
    return _json(
        {"id": row["id"], "text": row["body"], "timestamp": row["at"], "source": row["author"], "metadata": metadata}
    )


def _json(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def _change(row: Row) -> Row:
    return {"before": None, "after": row, "op": "c", "ts_ms": row["at"]}


def _framed(id: int, data: bytes) -> bytes:
    return b"\0" + id.to_bytes(4) + data


def avro(id: int, schema: Row) -> Write:
    parsed = fastavro.parse_schema(schema)

    def write(row: Row) -> bytes:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, row)
        return _framed(id, stream.getvalue())

    return write


def _debezium_avro() -> Write:
    write = avro(4, _CHANGE)
    return lambda row: write(_change(row))


def _protobuf() -> Write:
    article = GetMessages(list(files_of_schema(_SCHEMAS[2]).values()))["Article"]
    # Of the message of a file, the first one: an index of one zero.
    return lambda row: _framed(2, b"\0" + article(**row).SerializeToString())
