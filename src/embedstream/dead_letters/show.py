"""Dead letters for people and for programs."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from embedstream.display import printable

if TYPE_CHECKING:
    from embedstream.dead_letters.letter import DeadLetter, Facts
    from embedstream.kafka import Outgoing

_ROW = 16
_PRINTABLE = range(0x20, 0x7F)
_PREVIEW = 100


def facts_of(facts: Facts) -> dict[str, Any]:
    """For JSON; partition and offset are those of the dead letter, `origin` those of the message."""
    origin = {"topic": facts.topic, **facts.origin._asdict(), "timestamp": facts.timestamp} if facts.origin else None
    return {
        **facts.place._asdict(),
        "at": facts.at.isoformat(),
        "stage": facts.stage,
        "error": facts.code,
        "reason": facts.reason,
        "attempts": facts.attempts,
        "origin": origin,
    }


def as_record(letter: DeadLetter) -> dict[str, Any]:
    """For JSON: bytes that are no UTF-8 stand under `<name>_base64`."""
    headers = [{"name": name, **_bytes("value", value)} for name, value in letter.headers]
    return {**facts_of(letter.facts), **_bytes("key", letter.key), **_bytes("value", letter.value), "headers": headers}


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def as_outgoing(record: Outgoing) -> dict[str, Any]:
    """A record that is about to be sent, with the first characters of its value."""
    begins = printable((record.value or b"null").decode(errors="replace")[:_PREVIEW].replace("\n", " "))
    return {
        "partition": record.partition,
        "timestamp": record.timestamp,
        **_bytes("key", record.key),
        "size": len(record.value or b""),
        "begins": begins,
    }


def as_text(letter: DeadLetter) -> str:
    size = "null" if letter.value is None else f"{len(letter.value)} bytes"
    if "value" in letter.facts.omitted:
        size = "left out, as it is too large for a dead letter"
    parts = [f"dead letter {letter.facts.place}", *(_named(*header) for header in letter.headers)]
    return "\n".join([*parts, _named("key", letter.key), "", f"value ({size})", readable(letter.value)])


def _named(name: str, value: bytes | None) -> str:
    text = readable(value)
    shown = printable(name)
    return f"{shown:<15}  {text}" if "\n" not in text else f"{shown}\n{text}"


def readable(value: bytes | None) -> str:
    """JSON with indents, other text as it stands, and a hex dump of what would play tricks on a terminal."""
    if value is None:
        return "null"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return hex_dump(value)
    text = _indented(text)
    return text if all(line.isprintable() for line in text.split("\n")) else hex_dump(value)


def _indented(text: str) -> str:
    try:
        body = json.loads(text)
        pretty = json.dumps(body, indent=2, ensure_ascii=False)
        if not all(line.isprintable() for line in pretty.split("\n")):
            pretty = json.dumps(body, indent=2)
    except (ValueError, RecursionError):
        return text
    return pretty if isinstance(body, dict | list) else text


def hex_dump(value: bytes) -> str:
    rows = (value[start : start + _ROW] for start in range(0, len(value), _ROW))
    return "\n".join(
        f"{_ROW * number:08x}  {row.hex(' '):<{3 * _ROW}} {''.join(map(_ascii, row))}"
        for number, row in enumerate(rows)
    )


def _ascii(byte: int) -> str:
    return chr(byte) if byte in _PRINTABLE else "."
