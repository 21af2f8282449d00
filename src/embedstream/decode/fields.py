"""What holds for the fields of every message, wherever they come from; each check raises Rejected (stage decode)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from embedstream.decode.blank import is_blank
from embedstream.decode.message import Version
from embedstream.decode.timestamps import from_epoch
from embedstream.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.decode.message import Record, Rules

    Encode: TypeAlias = Callable[[dict[str, Any]], str]

MAX_ID_BYTES = 512
EPOCH = datetime.fromtimestamp(0, UTC)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = str.maketrans({0: _REPLACEMENT} | dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT))


def reject(code: str, reason: str) -> NoReturn:
    raise Rejected("decode", code, reason)


def storable(node: Any) -> Any:  # noqa: ANN401 - any JSON
    """The JSON with U+FFFD where PostgreSQL cannot store a character."""
    if isinstance(node, str):
        return node.translate(_UNSTORABLE)
    if isinstance(node, dict):
        return {storable(key): storable(value) for key, value in node.items()}
    if isinstance(node, list):
        return [storable(item) for item in node]
    return node


def checked_text(text: object, max_bytes: int) -> str:
    if not isinstance(text, str):
        reject("text_not_a_string", "the text is not a string")
    if not "!" <= text < "\x7f" and is_blank(text):  # most texts begin with something visible of ASCII
        what = "visible" if text and not text.isspace() else "but white space"
        reject("text_blank", f"the text has nothing {what}")
    size = len(text.encode())
    if size > max_bytes:
        reject("text_too_large", f"the text has {size} bytes, more than {max_bytes}")
    return text


def _is_storable(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def id_of_delete(record: Record) -> str:
    if not record.key:
        what = "null too" if record.key is None else "empty (zero bytes)"
        reject("delete_without_key", f"the value is null, which deletes the id in the key, but the key is {what}")
    return id_of_key(record.key)


def id_of_key(key: bytes) -> str:
    try:
        return checked_id(key.decode())
    except UnicodeDecodeError:
        raise Rejected("decode", "bad_id", "the key, which is the id, is not UTF-8") from None


def id_of_coordinates(topic: str, partition: int, offset: int) -> str:
    """The id of a message that has neither one of its own nor a key."""
    return f"{topic}-{partition}-{offset}"


def checked_id(text: str) -> str:
    if not text:
        reject("bad_id", "the id is empty")
    if not _is_storable(text):
        reject("bad_id", "the id has a character that PostgreSQL cannot store")
    if len(text.encode()) > MAX_ID_BYTES:
        reject("bad_id", f"the id has more than {MAX_ID_BYTES} bytes")
    return text


def check_model(given: object, rules: Rules) -> None:
    """A model that the table had before is one for which the message was meant, too."""
    if given is None:
        return
    if not isinstance(given, str):
        reject("bad_model", "the model is not a string")
    name = rules.model_name
    if name is None or any(given in (each, each.rpartition("/")[2]) for each in (name, *rules.former_models)):
        return
    reject("other_model", f"the message asks for another model than the table's, {name}")


def version(record: Record, event_time: datetime, rules: Rules) -> Version:
    moment = event_time if rules.version_by == "time" else EPOCH
    return Version(moment, record.topic, record.partition, record.offset)


def recorded_at(record: Record) -> datetime | None:
    return from_epoch(record.timestamp / 1000) if record.timestamp >= 0 else None


def checked_source(given: object) -> str | None:
    if given is not None and not isinstance(given, str):
        reject("bad_source", "the source is not a string")
    return given


def metadata_object(given: object) -> dict[str, Any] | None:
    if given is not None and not isinstance(given, dict):
        reject("bad_metadata", "the metadata is not an object")
    return given


def metadata_text(given: object, encode: Encode, *, sanitized: bool) -> str:
    given = metadata_object(given)
    if not given and not sanitized:
        return "{}"
    try:
        return encode((given or {}) | ({"sanitized": True} if sanitized else {}))
    except (RecursionError, ValueError):
        raise Rejected(
            "decode", "bad_metadata", "the metadata nests too deep, or has a number that is too large"
        ) from None
