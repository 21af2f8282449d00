"""What a value that cannot be taken looks like, in words that tell its producer what to change."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

DELETE = "a delete is a record with a key and a null value"
_BEGINNINGS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "an LZ4 frame"),
    (b"\x82SNAPPY\0", "snappy"),
    (b"\xff\x06\0\0sNaPpY", "snappy"),
    (b"PK\x03\x04", "a ZIP file"),
    (b"Obj\x01", "an Avro file"),
    (b"\xac\xed\0\x05", "a serialized Java object"),
    (b"<", "XML or HTML"),
)
_FRAMING_BYTES = 5
_GLUE_BYTES = 18
_LONG_BYTES = 8
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_WINDOWS = re.compile(rb"[\t\r\n\x20-\x7e\x80\x82-\x8c\x8e\x91-\x9c\x9e-\xff]+")


def of_bytes(value: bytes) -> str | None:
    """The name of what is no JSON in UTF-8; None where it is not recognised."""
    name = next((name for beginning, name in _BEGINNINGS if value.startswith(beginning)), None)
    if name is None and value[:1] == b"\0" and len(value) > _FRAMING_BYTES:
        name = f"a schema registry's framing (magic byte 0, schema id {int.from_bytes(value[1:_FRAMING_BYTES])})"
    return name


def other_unicode(value: bytes) -> str | None:
    """UTF-16 or UTF-32, where JSON in it begins so."""
    encoding = json.detect_encoding(value)
    if encoding.startswith("utf-8"):
        return None
    try:
        begins = value.decode(encoding).lstrip("\ufeff \t\r\n")[:1]
    except UnicodeDecodeError:
        return None
    return encoding[:6].upper() if begins and begins in '{["' else None


def of_other_text(data: bytes) -> str | None:
    """The name of what is no UTF-8."""
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    named = marked or of_bytes(data)
    if named is None and _WINDOWS.fullmatch(data):
        return "Latin-1 or Windows-1252"
    return named


def of_unframed(data: bytes) -> str | None:
    """The name of what should begin with the framing of Confluent's serializers, and what to do about it."""
    if not data:
        return "nothing: it has zero bytes"
    if data[:1] == b"\0":
        return _of_zero(data)
    if data[:2] in (b"\3\0", b"\3\5") and len(data) >= _GLUE_BYTES:
        return "the framing of AWS Glue's schema registry, which is not supported"
    return of_bytes(data) or _of_text(data)


def _of_zero(data: bytes) -> str | None:
    if len(data) == _LONG_BYTES:
        return "a 64-bit number: set its format to int64"
    if len(data) > _FRAMING_BYTES + _LONG_BYTES // 2 and not any(data[1:_FRAMING_BYTES]):
        return (
            "Apicurio's own framing with an id of eight bytes: have its serializer write Confluent's, which has four "
            "(Apicurio's Legacy4ByteIdHandler)"
        )
    return None


def _of_text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        return "JSON: set its format to json"
    return "plain text: set its format to text" if text.isprintable() or text.isspace() or "\n" in text else None


def of_other_json(body: object) -> str:
    """What is JSON, but not an object."""
    if body is None:
        return f"the JSON text null: {DELETE}"
    if isinstance(body, list):
        return "an array: send each of its objects as a message"
    if isinstance(body, str) and body.lstrip()[:1] in ("{", "["):
        return "a string with JSON in it: it was encoded twice"
    return "not an object"


def envelope(body: dict[str, Any]) -> str | None:
    """What a message without text is wrapped in, and how to unwrap it; None where it is not recognised."""
    if body.keys() == {"schema", "payload"}:
        return _connect(body["payload"])
    if _is_change(body):
        return _debezium(body)
    if "specversion" in body and "type" in body:
        return "a CloudEvents envelope: send its data as the value"
    if {"database", "table", "type", "data"} <= body.keys():
        return f"the envelope of {'Canal' if 'isDdl' in body else 'Maxwell'}: send the row as the value"
    return None


def _connect(payload: object) -> str:
    if payload is None:
        return f"Kafka Connect's envelope with an empty payload: {DELETE}"
    if isinstance(payload, dict) and _is_change(payload):
        return _debezium(payload)
    return "Kafka Connect's envelope: set value.converter.schemas.enable=false there"


def _is_change(body: dict[str, Any]) -> bool:
    return "op" in body and ("before" in body or "after" in body)


def _debezium(change: dict[str, Any]) -> str:
    delete = f"; {DELETE}" if change.get("after") is None else ""
    return f"Debezium's envelope: unwrap it there, with the transform ExtractNewRecordState{delete}"
