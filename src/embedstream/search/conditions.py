"""Metadata filters as they are written on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.decode.fields import storable
from embedstream.errors import ConfigError
from embedstream.options import json_or_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    Condition: TypeAlias = tuple[dict[str, Any], ...]
    """Alternatives, of which one is contained in the rows' metadata."""


def as_filter(conditions: Sequence[Condition]) -> dict[str, Any] | None:
    """The tree in which all of the conditions hold (see `filters`); None where there are none."""
    if not conditions:
        return None
    return {
        "and": [
            {"or": [{"field": "metadata", "op": "contains", "value": alternative} for alternative in condition]}
            for condition in conditions
        ]
    }


def parse_where(conditions: Iterable[str]) -> list[Condition]:
    """Metadata filters from JSON objects and `key=value` pairs.

    A value that is a number, true, false or null as JSON finds that, and the string of these characters; one that is
    any other JSON finds only that, and one that is no JSON is a string. Raises ConfigError for anything else.
    """
    try:
        return [_condition(condition) for condition in conditions]
    except RecursionError:
        raise ConfigError("--where: what is looked for nests too deep") from None


def _condition(text: str) -> Condition:
    whole = json_or_text(text)
    if isinstance(whole, dict):
        return (storable(whole),)
    key, equals, value = text.partition("=")
    if not equals or not key or text.lstrip().startswith("{"):
        raise ConfigError(f"--where {text!r}: write key=value, or a JSON object")
    parsed = json_or_text(value)
    values = (parsed,) if isinstance(parsed, str | dict | list) else (parsed, value)
    return tuple(storable({key: each}) for each in values)
