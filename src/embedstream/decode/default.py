"""A JSON object with the fields of a message under their own names: what a topic holds unless told otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from embedstream.decode import forms
from embedstream.decode.fields import (
    EPOCH,
    check_model,
    checked_id,
    checked_source,
    checked_text,
    id_of_coordinates,
    id_of_delete,
    id_of_key,
    metadata_text,
    recorded_at,
    reject,
    storable,
    version,
)
from embedstream.decode.formats import parse_json
from embedstream.decode.message import Delete, Message, content_hash
from embedstream.decode.timestamps import parse_timestamp
from embedstream.errors import Rejected

if TYPE_CHECKING:
    from embedstream.decode.message import Decode, Record, Rules


def decoder(rules: Rules) -> Decode:
    return lambda record: (decode(record, rules),)


def decode(record: Record, rules: Rules) -> Message | Delete:
    """Read one record.

    Raises Rejected (stage decode) for whatever can never be stored.
    """
    recorded = recorded_at(record)
    if record.value is None:
        return Delete(id_of_delete(record), version(record, recorded or EPOCH, rules))
    if len(record.value) > rules.max_value_bytes:
        reject("record_too_large", f"the value has more than {rules.max_value_bytes} bytes")
    body, encode = parse_json(record.value)
    if not isinstance(body, dict):
        reject("not_an_object", f"the value is JSON, but {forms.of_other_json(body)}")
    sanitized = _sanitize(body, record.value)
    text = _text(body, rules.max_text_bytes)
    check_model(body.get("model"), rules)
    said = parse_timestamp(body.get("timestamp"))
    timestamp = said or recorded or EPOCH
    return Message(
        id=id_of(body, record),
        version=version(record, min(timestamp, recorded or timestamp), rules),
        text=text,
        content_hash=content_hash(text),
        timestamp=timestamp,
        source=checked_source(body.get("source")),
        metadata=metadata_text(body.get("metadata"), encode, sanitized=sanitized),
        timed=said is not None,
    )


def _sanitize(body: dict[str, Any], value: bytes) -> bool:
    """Replace, in place, what PostgreSQL cannot store of text, source and metadata; whether there was anything.

    In valid UTF-8 only an escape can stand for such a character, and most values have none.
    """
    if b"\\u" not in value:
        return False
    fields = {name: body[name] for name in ("text", "source", "metadata") if name in body}
    try:
        clean = storable(fields)
    except RecursionError:
        reject("bad_metadata", "the metadata nests too deep")
    body.update(clean)
    return bool(clean != fields)


def _text(body: dict[str, Any], max_bytes: int) -> str:
    text = body.get("text")
    if text is None:
        reject_without_text(body)
    return checked_text(text, max_bytes)


def reject_without_text(body: dict[str, Any]) -> NoReturn:
    if wrapping := forms.envelope(body):
        reject("envelope", f"the value looks like {wrapping}")
    reject("text_missing", "the message has no text")


def id_of(body: dict[str, Any], record: Record) -> str:
    given = body.get("id")
    if given is None:
        if record.key:
            return id_of_key(record.key)
        return checked_id(id_of_coordinates(record.topic, record.partition, record.offset))
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        reject("bad_id", "the id is neither a string nor a number")
    if isinstance(given, float):
        given = _number_as_written(record.value or b"")
    return checked_id(str(given))


def _number_as_written(value: bytes) -> str:
    """The id as it stands in the JSON: two numbers that differ never share a row by being rounded."""
    try:
        return str(json.loads(value, parse_float=str)["id"])
    except RecursionError:
        raise Rejected("decode", "not_json", "the value is JSON of unreasonable depth") from None
