"""What PostgreSQL can store of texts and metadata."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from embedstream.decode.fields import metadata_text, storable
from embedstream.decode.formats import encode


def stored_text(text: str) -> str:
    """The very same object, but for characters that are replaced."""
    if "\0" not in text and (text.isascii() or _is_encodable(text)):
        return text
    return str(storable(text))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def stored_metadata(given: dict[str, Any], *, sanitized: bool) -> str:
    """The text of the object; it says whether anything was replaced, there or elsewhere. Raises Rejected."""
    if not given and not sanitized:
        return "{}"
    try:
        text = encode(given)
    except (msgspec.MsgspecError, OverflowError, TypeError, ValueError, RecursionError):
        return _checked(given, sanitized=sanitized)
    # An escaped NUL, and what msgspec writes for numbers that JSON does not have, are looked at twice.
    if sanitized or "\\u0000" in text or "null" in text:
        return _checked(given, sanitized=sanitized)
    return text


def _checked(given: dict[str, Any], *, sanitized: bool) -> str:
    clean = storable(given)
    return metadata_text(clean, _encode_checked, sanitized=sanitized or clean != given)


_encode_checked = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
