"""JSON lines to records of the input topic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def records_of_lines(lines: Iterable[bytes], key_field: str) -> Iterator[Outgoing]:
    """One record a line, its value the line as it stands, its key the field `key_field` where there is one.

    Blank lines are passed over. Raises ConfigError for a line that is no JSON object.
    """
    for number, line in enumerate(lines, 1):
        value = line.strip()
        if value:
            yield Outgoing(value, _key(value, key_field, number))


def _key(value: bytes, key_field: str, number: int) -> bytes | None:
    try:
        body = json.loads(value, parse_float=str)  # as it is written, which is how it becomes the id
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"line {number} is not JSON ({exc}); the lines before it were sent") from exc
    if not isinstance(body, dict):
        raise ConfigError(f"line {number} is no JSON object; the lines before it were sent")
    key = body.get(key_field)
    keyed = isinstance(key, str | int) and not isinstance(key, bool)
    return str(key).encode(errors="surrogatepass") if keyed else None


def deletes(ids: Iterable[str]) -> list[Outgoing]:
    """A record with a null value for each id."""
    return [Outgoing(None, id.encode(errors="surrogateescape")) for id in ids]
