"""From a Kafka record to what it asks for: a message to store, a delete, or a reason to reject it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Self, TypeAlias

import msgspec

from embedstream import forms
from embedstream.blank import is_blank
from embedstream.errors import Rejected
from embedstream.limits import record_bytes
from embedstream.timestamps import from_epoch, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

    _Encode: TypeAlias = Callable[[dict[str, Any]], str]

MAX_ID_BYTES = 512
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = str.maketrans({0: _REPLACEMENT} | dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT))
_EPOCH = datetime.fromtimestamp(0, UTC)


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

    @property
    def timed(self) -> bool:
        """See Message; a delete has only its record's time."""
        return False


class Message(NamedTuple):
    """A text to store; `metadata` is the text of a JSON object, `timestamp` what the message said of itself.

    `timed` tells whether it said anything: else its time is the record's.
    """

    id: str
    version: Version
    text: str
    content_hash: bytes
    timestamp: datetime
    source: str | None
    metadata: str
    timed: bool = True


VersionBy: TypeAlias = Literal["time", "record"]


class Rules(NamedTuple):
    """What a topic's messages are held against: the name of the table's model (None: not known, any will do), the
    longest text in bytes, the order.

    By `record`, versions go by topic, partition and offset alone: the event time is that of the epoch for all.
    """

    model_name: str | None
    max_text_bytes: int
    version_by: VersionBy = "time"

    @classmethod
    def of(cls, settings: Settings, model_name: str | None) -> Self:
        return cls(model_name, settings.max_text_bytes, settings.version_by)

    @property
    def max_value_bytes(self) -> int:
        return record_bytes(self.max_text_bytes)


def decode(record: Record, rules: Rules) -> Message | Delete:
    """Read one record.

    Raises Rejected (stage decode) for whatever can never be stored.
    """
    recorded = _recorded_at(record)
    if record.value is None:
        return Delete(_id_of_delete(record), _version(record, recorded or _EPOCH, rules))
    if len(record.value) > rules.max_value_bytes:
        _reject("record_too_large", f"the value has more than {rules.max_value_bytes} bytes")
    body, encode = _parse(record.value)
    sanitized = _sanitize(body, record.value)
    text = _text(body, rules.max_text_bytes)
    _check_model(body.get("model"), rules.model_name)
    said = parse_timestamp(body.get("timestamp"))
    timestamp = said or recorded or _EPOCH
    return Message(
        id=_id(body, record),
        version=_version(record, min(timestamp, recorded or timestamp), rules),
        text=text,
        content_hash=content_hash(text),
        timestamp=timestamp,
        source=_source(body.get("source")),
        metadata=_metadata(body.get("metadata"), encode, sanitized=sanitized),
        timed=said is not None,
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
        _reject("not_an_object", f"the value is JSON, but {forms.of_other_json(body)}")
    return body, encode


def _parse_again(value: bytes) -> object:
    """What msgspec refuses and json takes: a byte order mark, halves of surrogate pairs, and numbers beyond any float
    (as infinite).
    """
    try:
        return _DECODER.decode(value.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError as exc:
        _reject_bytes(value, "not_utf8", f"the value is not UTF-8 (byte {exc.start})")
    except json.JSONDecodeError as exc:
        _reject_bytes(value, "not_json", f"the value is not JSON ({exc.msg} at character {exc.pos})")
    except (RecursionError, ValueError):
        raise Rejected("decode", "not_json", "the value is JSON of unreasonable depth or with a huge number") from None


def _reject_bytes(value: bytes, code: str, reason: str) -> NoReturn:
    if not value or value.isspace():
        size = "white space" if value else "zero bytes"
        raise Rejected("decode", "not_json", f"the value is empty ({size}): {forms.DELETE}") from None
    if encoding := forms.other_unicode(value):
        raise Rejected("decode", "not_utf8", f"the value is {encoding}, not UTF-8") from None
    form = forms.of_bytes(value)
    raise Rejected("decode", code, f"{reason}: it looks like {form}" if form else reason) from None


def _reject_constant(name: str) -> NoReturn:
    _reject("not_json", f"the value is not JSON ({name} is no JSON number: write null, or leave the field out)")


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
        clean = storable(fields)
    except RecursionError:
        _reject("bad_metadata", "the metadata nests too deep")
    body.update(clean)
    return bool(clean != fields)


def storable(node: Any) -> Any:  # noqa: ANN401 - any JSON
    """The JSON with U+FFFD where PostgreSQL cannot store a character."""
    if isinstance(node, str):
        return node.translate(_UNSTORABLE)
    if isinstance(node, dict):
        return {storable(key): storable(value) for key, value in node.items()}
    if isinstance(node, list):
        return [storable(item) for item in node]
    return node


def _text(body: dict[str, Any], max_bytes: int) -> str:
    text = body.get("text")
    if text is None:
        _reject_without_text(body)
    if not isinstance(text, str):
        _reject("text_not_a_string", "the text is not a string")
    if not "!" <= text < "\x7f" and is_blank(text):  # most texts begin with something visible of ASCII
        what = "visible" if text and not text.isspace() else "but white space"
        _reject("text_blank", f"the text has nothing {what}")
    size = len(text.encode())
    if size > max_bytes:
        _reject("text_too_large", f"the text has {size} bytes, more than {max_bytes}")
    return text


def _reject_without_text(body: dict[str, Any]) -> NoReturn:
    if wrapping := forms.envelope(body):
        _reject("envelope", f"the value looks like {wrapping}")
    _reject("text_missing", "the message has no text")


def _is_storable(text: str) -> bool:
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
        if record.key:
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
    if not record.key:
        what = "null too" if record.key is None else "empty (zero bytes)"
        _reject("delete_without_key", f"the value is null, which deletes the id in the key, but the key is {what}")
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
    if not _is_storable(text):
        _reject("bad_id", "the id has a character that PostgreSQL cannot store")
    if len(text.encode()) > MAX_ID_BYTES:
        _reject("bad_id", f"the id has more than {MAX_ID_BYTES} bytes")
    return text


def _check_model(given: object, model_name: str | None) -> None:
    if given is None:
        return
    if not isinstance(given, str):
        _reject("bad_model", "the model is not a string")
    if model_name is None or given == model_name or given == model_name.rpartition("/")[2]:
        return
    _reject("other_model", f"the message asks for another model than the table's, {model_name}")


def _version(record: Record, event_time: datetime, rules: Rules) -> Version:
    moment = event_time if rules.version_by == "time" else _EPOCH
    return Version(moment, record.topic, record.partition, record.offset)


def _recorded_at(record: Record) -> datetime | None:
    return from_epoch(record.timestamp / 1000) if record.timestamp >= 0 else None


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
