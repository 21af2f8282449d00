"""From the bytes of a key or a value to plain values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from embedstream.decode import forms
from embedstream.decode.fields import reject
from embedstream.errors import Rejected

if TYPE_CHECKING:
    from embedstream.decode.fields import Encode


def parse_json(value: bytes) -> tuple[object, Encode]:
    """What the bytes are as JSON, and what writes a part of it as JSON again; raises Rejected."""
    try:
        return _decode(value), encode
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _parse_again(value), _encode_checked


def encode(node: dict[str, Any]) -> str:
    return _encode_bytes(node).decode()


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
    reject("not_json", f"the value is not JSON ({name} is no JSON number: write null, or leave the field out)")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)
_encode_checked = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = msgspec.json.Decoder().decode
_encode_bytes = msgspec.json.Encoder().encode
