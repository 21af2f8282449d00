"""CloudEvents 1.0 in Kafka's protocol binding (https://github.com/cloudevents/spec): structured and binary.

An event's id names the event, not what it tells of, so that it is no id of a row: the subject is, or the key.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from embedstream.decode.fields import reject
from embedstream.decode.formats import parse_json
from embedstream.decode.opened import Headers, Opened, Parts, parts_of_key

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time", "dataschema")
HEADERS = ("content-type", *(f"ce_{name}" for name in _ATTRIBUTES))
_STRUCTURED = "application/cloudevents"
_BATCH = "application/cloudevents-batch"


def open_event(value: Any, key: Any, headers: Headers) -> Sequence[Opened]:  # noqa: ANN401 - any JSON
    content_type = (headers.get("content-type") or "").strip().lower()
    if content_type.startswith(_BATCH):
        reject(
            "envelope", "the value is a batch of CloudEvents, which Kafka's binding does not have: send them one by one"
        )
    if content_type.startswith(_STRUCTURED):
        return _structured(value, key)
    if headers.get("ce_specversion") is not None:
        return (_opened(value, _binary_event(headers), key),)
    return _structured(value, key)


def _structured(value: Any, key: Any) -> Sequence[Opened]:  # noqa: ANN401 - any JSON
    if not isinstance(value, dict) or not {"specversion", "type", "source", "id"} <= value.keys():
        reject("envelope", "the record is no CloudEvent: neither the headers ce_* nor an object with specversion, id, "
               "source and type")  # fmt: skip
    event = {name: said for name, said in value.items() if name not in {"data", "data_base64"}}
    encoded = value.get("data_base64")
    data = value.get("data") if encoded is None else _decoded(encoded, event.get("datacontenttype"))
    return (_opened(data, event, key),)


def _opened(data: Any, event: dict[str, Any], key: Any) -> Opened:  # noqa: ANN401 - any JSON
    subject = event.get("subject")
    return Opened(data, event, [subject] if subject else parts_of_key(key), time=event.get("time"))


def _binary_event(headers: Headers) -> dict[str, Any]:
    return {name[3:]: said for name, said in headers.items() if name.startswith("ce_") and said is not None}


def key_id(key: Any, headers: Headers) -> Parts:  # noqa: ANN401 - any JSON
    """An event without data, in binary mode, is a record without a value."""
    subject = headers.get("ce_subject")
    return [subject] if subject else parts_of_key(key)


def _decoded(encoded: object, content_type: object) -> Any:  # noqa: ANN401 - any JSON
    """Text and JSON for what they are; other bytes as the base64 that they came in."""
    if not isinstance(encoded, str):
        reject("envelope", "the event's data_base64 is not a string")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        reject("envelope", "the event's data_base64 is not base64")
    media = content_type.partition(";")[0].strip().lower() if isinstance(content_type, str) else "application/json"
    if media.endswith(("/json", "+json")):
        return parse_json(data)[0]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return encoded
