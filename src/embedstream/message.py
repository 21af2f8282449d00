"""From a Kafka record to what it asks for: a message to store, a delete, or a reason to reject it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

import msgspec

from embedstream.errors import Rejected
from embedstream.limits import record_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    _Encode: TypeAlias = Callable[[dict[str, Any]], str]

MAX_ID_BYTES = 512
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = str.maketrans({0: _REPLACEMENT} | dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT))
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECONDS_FROM = 1e11
_BEYOND_ANY_CALENDAR = 1e18


class Record(NamedTuple):
    """A Kafka record; `timestamp` is in milliseconds since the epoch, negative where the broker has none."""

    key: bytes | None
    value: bytes | None
    topic: str
    partition: int
    offset: int
    timestamp: int


class Version(NamedTuple):
    """Orders all versions of an id, from left to right; no two records share one."""

    event_time: datetime
    topic: str
    partition: int
    offset: int


class Delete(NamedTuple):
    """The wish that the row of an id be gone."""

    id: str
    version: Version


class Message(NamedTuple):
    """A text to store; `metadata` is the text of a JSON object, `timestamp` what the message said of itself."""

    id: str
    version: Version
    text: str
    content_hash: bytes
    timestamp: datetime
    source: str | None
    metadata: str


class Rules(NamedTuple):
    """What a topic's messages are held against: the name of the table's model, and the longest text in bytes."""

    model_name: str
    max_text_bytes: int

    @property
    def max_value_bytes(self) -> int:
        return record_bytes(self.max_text_bytes)


def decode(record: Record, rules: Rules) -> Message | Delete:
    """Read one record.

    Raises Rejected (stage decode) for whatever can never be stored.
    """
    recorded = _recorded_at(record)
    if record.value is None:
        return Delete(_id_of_delete(record), _version(record, recorded or _EPOCH))
    if len(record.value) > rules.max_value_bytes:
        _reject("record_too_large", f"the value has more than {rules.max_value_bytes} bytes")
    body, encode = _parse(record.value)
    sanitized = _sanitize(body, record.value)
    text = _text(body.get("text"), rules.max_text_bytes)
    _check_model(body.get("model"), rules.model_name)
    timestamp = _timestamp(body.get("timestamp")) or recorded or _EPOCH
    return Message(
        id=_id(body, record),
        version=_version(record, min(timestamp, recorded or timestamp)),
        text=text,
        content_hash=content_hash(text),
        timestamp=timestamp,
        source=_source(body.get("source")),
        metadata=_metadata(body.get("metadata"), encode, sanitized=sanitized),
    )


def content_hash(text: str) -> bytes:
    """SHA-256 of the text's UTF-8 bytes (32 bytes)."""
    return hashlib.sha256(text.encode()).digest()


def _reject(code: str, reason: str) -> NoReturn:
    raise Rejected("decode", code, reason)


def _parse(value: bytes) -> tuple[dict[str, Any], _Encode]:
    """The object, and what writes a part of it as JSON again."""
    encode: _Encode = _encode
    try:
        body = _decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        body, encode = _parse_again(value), _encode_checked
    if not isinstance(body, dict):
        _reject("not_an_object", "the value is JSON, but not an object")
    return body, encode


def _parse_again(value: bytes) -> object:
    """What msgspec refuses and json takes are halves of surrogate pairs, and numbers beyond any float (as infinite)."""
    try:
        return _DECODER.decode(value.decode())
    except UnicodeDecodeError as exc:
        raise Rejected("decode", "not_utf8", f"the value is not UTF-8 (byte {exc.start})") from None
    except json.JSONDecodeError as exc:
        raise Rejected("decode", "not_json", f"the value is not JSON ({exc.msg} at character {exc.pos})") from None
    except (RecursionError, ValueError):
        raise Rejected("decode", "not_json", "the value is JSON of unreasonable depth or with a huge number") from None


def _reject_constant(name: str) -> NoReturn:
    _reject("not_json", f"the value is not JSON ({name} is no JSON number)")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)
_encode_checked = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = msgspec.json.Decoder().decode
_encode_bytes = msgspec.json.Encoder().encode


def _encode(node: dict[str, Any]) -> str:
    return _encode_bytes(node).decode()


def _sanitize(body: dict[str, Any], value: bytes) -> bool:
    """Replace, in place, what PostgreSQL cannot store of text, source and metadata; whether there was anything.

    In valid UTF-8 only an escape can stand for such a character, and most values have none.
    """
    if b"\\u" not in value:
        return False
    fields = {name: body[name] for name in ("text", "source", "metadata") if name in body}
    try:
        clean = _cleaned(fields)
    except RecursionError:
        _reject("bad_metadata", "the metadata nests too deep")
    body.update(clean)
    return bool(clean != fields)


def _cleaned(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, str):
        return node.translate(_UNSTORABLE)
    if isinstance(node, dict):
        return {_cleaned(key): _cleaned(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_cleaned(item) for item in node]
    return node


def _text(text: object, max_bytes: int) -> str:
    if text is None:
        _reject("text_missing", "the message has no text")
    if not isinstance(text, str):
        _reject("text_not_a_string", "the text is not a string")
    if not text or text.isspace():
        _reject("text_blank", "the text has nothing but white space")
    size = len(text.encode())
    if size > max_bytes:
        _reject("text_too_large", f"the text has {size} bytes, more than {max_bytes}")
    return text


def _storable(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _id(body: dict[str, Any], record: Record) -> str:
    given = body.get("id")
    if given is None:
        if record.key is not None:
            return _id_of_key(record.key)
        return _checked_id(id_of_coordinates(record.topic, record.partition, record.offset))
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        _reject("bad_id", "the id is neither a string nor a number")
    if isinstance(given, float):
        given = _number_as_written(record.value or b"")
    return _checked_id(str(given))


def _number_as_written(value: bytes) -> str:
    """The id as it stands in the JSON: two numbers that differ never share a row by being rounded."""
    try:
        return str(json.loads(value, parse_float=str)["id"])
    except RecursionError:
        raise Rejected("decode", "not_json", "the value is JSON of unreasonable depth") from None


def _id_of_delete(record: Record) -> str:
    if record.key is None:
        _reject("delete_without_key", "the value is null, which deletes the id in the key, but the key is null too")
    return _id_of_key(record.key)


def _id_of_key(key: bytes) -> str:
    try:
        return _checked_id(key.decode())
    except UnicodeDecodeError:
        raise Rejected("decode", "bad_id", "the key, which is the id, is not UTF-8") from None


def id_of_coordinates(topic: str, partition: int, offset: int) -> str:
    """The id of a message that has neither one of its own nor a key."""
    return f"{topic}-{partition}-{offset}"


def _checked_id(text: str) -> str:
    if not text:
        _reject("bad_id", "the id is empty")
    if not _storable(text):
        _reject("bad_id", "the id has a character that PostgreSQL cannot store")
    if len(text.encode()) > MAX_ID_BYTES:
        _reject("bad_id", f"the id has more than {MAX_ID_BYTES} bytes")
    return text


def _check_model(given: object, model_name: str) -> None:
    if given is None or given == model_name or given == model_name.rpartition("/")[2]:
        return
    if not isinstance(given, str):
        _reject("bad_model", "the model is not a string")
    _reject("other_model", f"the message asks for another model than the table's, {model_name}")


def _version(record: Record, event_time: datetime) -> Version:
    return Version(event_time, record.topic, record.partition, record.offset)


def _recorded_at(record: Record) -> datetime | None:
    return _from_epoch(record.timestamp / 1000) if record.timestamp >= 0 else None


def _timestamp(given: object) -> datetime | None:
    if given is None:
        return None
    if isinstance(given, str):
        return _from_iso(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        _reject("bad_timestamp", "the timestamp is neither a string nor a number")
    return _from_number(given)


def _from_iso(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            _reject("bad_timestamp", "the timestamp has no time zone")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Rejected("decode", "bad_timestamp", "the timestamp is not ISO 8601 with a time zone") from None


def _from_number(number: float) -> datetime:
    moment = None
    if abs(number) < _BEYOND_ANY_CALENDAR:
        moment = _from_epoch(number / 1000 if abs(number) > _MILLISECONDS_FROM else number)
    if moment is None:
        _reject("bad_timestamp", "the timestamp is outside of the years 1 to 9999")
    return moment


def _from_epoch(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _source(given: object) -> str | None:
    if given is not None and not isinstance(given, str):
        _reject("bad_source", "the source is not a string")
    return given


def _metadata(given: object, encode: _Encode, *, sanitized: bool) -> str:
    if given is not None and not isinstance(given, dict):
        _reject("bad_metadata", "the metadata is not an object")
    if not given and not sanitized:
        return "{}"
    try:
        return encode((given or {}) | ({"sanitized": True} if sanitized else {}))
    except (RecursionError, ValueError):
        raise Rejected(
            "decode", "bad_metadata", "the metadata nests too deep, or has a number that is too large"
        ) from None
