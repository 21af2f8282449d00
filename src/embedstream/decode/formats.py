"""From the bytes of a key or a value to plain values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import msgspec

from embedstream.decode import forms
from embedstream.decode.fields import reject
from embedstream.decode.spec import ProtobufFile
from embedstream.errors import ConfigError, Rejected

if TYPE_CHECKING:
    from pathlib import Path

    from embedstream.decode.fields import Encode
    from embedstream.decode.message import Read
    from embedstream.decode.registry import Registry
    from embedstream.decode.spec import Format


Part: TypeAlias = Literal["key", "value"]
_INTEGERS = {"int32": 4, "int64": 8}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def reader(format: Format, part: Part, registry: Registry | None, directory: Path) -> Read:
    """What reads a key or a value of this format as plain values, as JSON could have them, or raises Rejected.

    `directory` is the pipeline file's. That of `registry` is a `framed.Framed`, which takes the id of a header as well,
    and raises RegistryUnavailable, too. Raises ConfigError.
    """
    if isinstance(format, ProtobufFile):
        from embedstream.decode.protobuf import reading_file  # noqa: PLC0415 - of the extra `decode`

        return reading_file(format, part, directory)
    match format:
        case "json":
            return json_reader(part)
        case "text":
            return lambda data: _text(data, part)
        case "int32" | "int64":
            return _integer_reader(format, part)
        case "uuid":
            return lambda data: _uuid(data, part)
        case "registry":
            return _framed_reader(part, registry)


def _framed_reader(part: Part, registry: Registry | None) -> Read:
    if registry is None:
        raise ConfigError(f"the format of the {part} is registry, but no registry is named: set registry to its URL")
    from embedstream.decode.framed import Framed  # noqa: PLC0415 - as above

    return Framed(part, registry, json_reader(part))


def json_reader(part: Part) -> Read:
    def read(data: bytes) -> object:
        try:
            return _decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return _parse_again(data, part)

    return read


def _text(data: bytes, part: Part) -> str:
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as exc:
        reason = f"the {part} is not UTF-8 (byte {exc.start})"
        form = forms.of_other_text(data)
        raise Rejected("decode", "not_utf8", f"{reason}: it looks like {form}" if form else reason) from None


def _integer_reader(name: str, part: Part) -> Read:
    """Big-endian, as Kafka's serializers of Java have it."""
    size = _INTEGERS[name]

    def read(data: bytes) -> int:
        if len(data) != size:
            reject(f"not_{name}", f"the {part} has {len(data)} bytes, where an {name} has {size}")
        return int.from_bytes(data, "big", signed=True)

    return read


def _uuid(data: bytes, part: Part) -> str:
    """In lower case, as Kafka's serializer of Java writes it: as UTF-8 text."""
    text = data.decode("ascii", errors="replace")
    if not _UUID.fullmatch(text):
        reject("not_uuid", f"the {part} is no UUID of 36 characters, such as 6f2c5d0e-0b1a-4c3d-8e9f-001122334455")
    return text.lower()


def parse_json(value: bytes) -> tuple[object, Encode]:
    """What the bytes are as JSON, and what writes a part of it as JSON again; raises Rejected."""
    try:
        return _decode(value), encode
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _parse_again(value, "value"), _encode_checked


def encode(node: dict[str, Any]) -> str:
    return _encode_bytes(node).decode()


def _parse_again(data: bytes, part: Part) -> object:
    """What msgspec refuses and json takes: a byte order mark, halves of surrogate pairs, and numbers beyond any float
    (as infinite).
    """
    try:
        return _DECODER.decode(data.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError as exc:
        _reject_bytes(data, "not_utf8", part, f"is not UTF-8 (byte {exc.start})")
    except json.JSONDecodeError as exc:
        _reject_bytes(data, "not_json", part, f"is not JSON ({exc.msg} at character {exc.pos})")
    except _Constant as exc:
        advice = f"{exc} is no JSON number: write null, or leave the field out"
        raise Rejected("decode", "not_json", f"the {part} is not JSON ({advice})") from None
    except (RecursionError, ValueError):
        reason = f"the {part} is JSON of unreasonable depth or with a huge number"
        raise Rejected("decode", "not_json", reason) from None


def _reject_bytes(data: bytes, code: str, part: Part, what: str) -> NoReturn:
    if not data or data.isspace():
        size = "white space" if data else "zero bytes"
        advice = f": {forms.DELETE}" if part == "value" else ""
        raise Rejected("decode", "not_json", f"the {part} is empty ({size}){advice}") from None
    if encoding := forms.other_unicode(data):
        raise Rejected("decode", "not_utf8", f"the {part} is {encoding}, not UTF-8") from None
    form = forms.of_bytes(data)
    reason = f"the {part} {what}"
    raise Rejected("decode", code, f"{reason}: it looks like {form}" if form else reason) from None


class _Constant(Exception):
    """A word that json takes for a number, and JSON does not."""


def _refuse_constant(name: str) -> NoReturn:
    raise _Constant(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_encode_checked = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = msgspec.json.Decoder().decode
_encode_bytes = msgspec.json.Encoder().encode
