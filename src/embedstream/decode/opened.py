"""What is found in an envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from embedstream.decode import connect
from embedstream.decode.formats import parse_json
from embedstream.errors import Rejected

Headers: TypeAlias = Mapping[str, str | None]
Parts: TypeAlias = list[Any] | None
"""Of an id; None where nothing says what it is."""


class Opened(NamedTuple):
    """One change: `value` is the row or the data, `event` what the envelope says of it, in its own words.

    `time` is for read_moment. `before` is the row as it was, and `before_id` its id, where that may have been
    another: what is stored under it has moved.
    """

    value: Any
    event: Mapping[str, Any] | None = None
    id: Parts = None
    is_delete: bool = False
    time: Any = None
    before: Any = None
    before_id: Parts = None


Open: TypeAlias = Callable[[Any, Any, Headers], Sequence[Opened]]


class Envelope(NamedTuple):
    """`open(value, key, headers)` gives the changes, none where there are no data; raises Rejected.

    `key(key)` is the key without its wrapping, as `open` and `key_id(key, headers)` want it: the id by a record without
    value. `reads_key` says whether `open` looks at the key; `headers` are those that it looks at.
    """

    open: Open
    key: Callable[[Any], Any]
    key_id: Callable[[Any, Headers], Parts]
    reads_key: bool = True
    headers: frozenset[str] = frozenset()


def opened_key(key: Any) -> Any:  # noqa: ANN401 - any JSON
    """JSON that was read as text is JSON, and Connect's wrapping is taken off."""
    if isinstance(key, str) and key[:1] in {"{", "[", '"'}:
        key = _parsed(key)
    return connect.unwrapped(key)


def _parsed(key: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return parse_json(key.encode())[0]
    except (Rejected, UnicodeEncodeError):
        return key


def parts_of_key(key: Any, _: Headers | None = None) -> Parts:  # noqa: ANN401 - any JSON
    """A key's fields in their order."""
    if isinstance(key, dict):
        return list(key.values()) or None
    return None if key is None else [key]
