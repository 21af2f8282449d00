"""What a message says of its time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

from embedstream.errors import Rejected

_MILLISECONDS_FROM = 1e11
_BEYOND_ANY_CALENDAR = 1e18


def parse(given: object) -> datetime | None:
    if given is None:
        return None
    if isinstance(given, str):
        return _from_iso(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        _reject("the timestamp is neither a string nor a number")
    return _from_number(given)


def _from_iso(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            _reject("the timestamp has no time zone")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Rejected("decode", "bad_timestamp", "the timestamp is not ISO 8601 with a time zone") from None


def _from_number(number: float) -> datetime:
    moment = None
    if abs(number) < _BEYOND_ANY_CALENDAR:
        moment = from_epoch(number / 1000 if abs(number) > _MILLISECONDS_FROM else number)
    if moment is None:
        _reject("the timestamp is outside of the years 1 to 9999")
    return moment


def from_epoch(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _reject(reason: str) -> NoReturn:
    raise Rejected("decode", "bad_timestamp", reason)
