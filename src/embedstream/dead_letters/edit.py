"""Changes to a payload before it is sent again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from embedstream.errors import ConfigError
from embedstream.options import json_or_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_METADATA = "metadata."


def parse_fields(assignments: Iterable[str]) -> dict[str, Any]:
    """`field=value` pairs, where a value that is no JSON is a string; raises ConfigError for anything else."""
    fields = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise ConfigError(f"--set {assignment!r}: write field=value")
        fields[name] = json_or_text(value)
    return fields


def with_fields(value: bytes | None, fields: Mapping[str, Any]) -> bytes:
    """The JSON object with these fields; `metadata.key` means a field of its metadata.

    Raises ConfigError where the payload is no JSON object.
    """
    body = _object(value)
    if body is None:
        raise ConfigError("its payload is no JSON object, so --set cannot change it: use --edit, or leave it out")
    for name, new in fields.items():
        if name.startswith(_METADATA):
            metadata = body.get("metadata")
            body["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), name.removeprefix(_METADATA): new}
        else:
            body[name] = new
    return json.dumps(body).encode()


def has_id(value: bytes) -> bool:
    body = _object(value)
    return body is not None and body.get("id") is not None


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        body = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def editable(value: bytes | None) -> str | None:
    """The payload for a form: JSON with indents where that changes nothing but white space, other text as it stands.

    None for what no form gives back as it was.
    """
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError:
        return None
    shown = _indented(text) or text
    return shown if value is not None and all(map(_is_plain, shown)) else None


def _is_plain(character: str) -> bool:
    return character.isprintable() or character in "\n\t"


def _indented(text: str) -> str | None:
    """None where Python would not write the very same JSON: a number, or a name that stands there twice."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    compact = (",", ":")
    for as_ascii in (False, True):
        written = (json.dumps(body, ensure_ascii=as_ascii, separators=each) for each in (None, compact))
        if isinstance(body, dict | list) and text.strip() in written:
            return json.dumps(body, ensure_ascii=as_ascii, indent=2)
    return None


def from_form(value: bytes | None, text: str) -> bytes | None:
    """What a form gave back for the payload, which ends its lines as HTTP does; unchanged, the payload itself."""
    text = text.replace("\r\n", "\n")
    return value if text == editable(value) else text.encode()


def edited(value: bytes | None) -> bytes | None:
    """What $VISUAL, $EDITOR or vi made of the payload; None where it changed nothing.

    Raises ConfigError where there is no such editor, or it fails, or the payload is no text.
    """
    text = _text(value)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with TemporaryDirectory(prefix="embedstream-") as directory:
        path = Path(directory) / "message.json"
        path.write_text(text, encoding="utf-8", newline="")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)
            new = path.read_bytes()
        except (OSError, ValueError, subprocess.CalledProcessError) as exc:
            raise ConfigError(f"--edit: the editor {editor!r} fails ({exc}): set EDITOR") from exc
    # Editors end the last line, whether it was ended before or not.
    new = new if text.endswith("\n") else new.removesuffix(b"\n")
    return None if new == text.encode() else new


def _text(value: bytes | None) -> str:
    if value is None:
        raise ConfigError("it is a delete and has no payload, so --edit cannot open it")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ConfigError("its payload is no UTF-8, so --edit cannot open it") from None
