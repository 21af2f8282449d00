"""What a message says of its time: RFC 3339, other ISO 8601 with a zone, or a number since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from embedstream.errors import Rejected

_EPOCH = datetime.fromtimestamp(0, UTC)
_SECOND = timedelta(seconds=1)
_SECONDS_UP_TO = 1e11
_BEYOND_ANY_UNIT = 1e21
_OUTSIDE = "the timestamp is outside of the years 1 to 9999"
# As a string a number might be a date, as 20240131 is; of these lengths it is an epoch between 2001 and 2286.
_EPOCH_AS_TEXT = re.compile(r"(?:\d{10}|\d{13}|\d{16}|\d{19})(?:\.\d+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_LEAP_SECOND = re.compile(r"([\d-]+[Tt ]\d\d:\d\d:)60(.*)", re.ASCII)


def parse_timestamp(given: object) -> datetime | None:
    """The moment, in UTC; None for None.

    A number counts seconds up to 1e11, and beyond it the first of milliseconds, microseconds and nanoseconds with which
    it lies in the years 1 to 9999. Raises Rejected.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return _from_text(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        _reject("the timestamp is neither a string nor a number")
    return _from_number(given)


def _from_text(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except ValueError:
        return _from_other_text(text)
    except OverflowError:
        raise Rejected("decode", "bad_timestamp", _OUTSIDE) from None
    return _without_zone(text)


def _without_zone(text: str) -> datetime:
    """Digits may be read as a date by chance: 1764120112345 has a month, a day, hours and minutes."""
    if not _EPOCH_AS_TEXT.fullmatch(text):
        _reject("the timestamp has no time zone: add Z, or an offset such as +02:00")
    return _from_number(float(text) if "." in text else int(text))


def _from_other_text(text: str) -> datetime:
    """What RFC 3339 allows and Python does not read, and epochs as strings."""
    if _EPOCH_AS_TEXT.fullmatch(text):
        return _without_zone(text)
    if _NUMBER.fullmatch(text):
        _reject(
            "the timestamp is a number in a string, but not of 10 (seconds), 13 (milliseconds), 16 (microseconds) or "
            "19 (nanoseconds) digits: write it as a number, or in ISO 8601 with a time zone"
        )
    if leap := _LEAP_SECOND.fullmatch(text):
        return _after_leap_second(_from_text(f"{leap[1]}59{leap[2]}"))
    if text.endswith("z"):
        return _from_text(f"{text[:-1]}Z")
    outside = text.startswith("0000-")
    return _reject(_OUTSIDE if outside else "the timestamp is not ISO 8601 with a time zone")


def _after_leap_second(last: datetime) -> datetime:
    """A day's second 23:59:60, which POSIX does not count, is the first one of the next day."""
    if (last.hour, last.minute) != (23, 59):
        _reject("the timestamp's second is 60, which only the last minute of a day in UTC may have")
    try:
        return last + _SECOND
    except OverflowError:
        raise Rejected("decode", "bad_timestamp", _OUTSIDE) from None


def _from_number(number: float) -> datetime:
    size = abs(number)
    if size <= _SECONDS_UP_TO:
        moment = from_epoch(number)
    elif size < _BEYOND_ANY_UNIT:
        moment = from_epoch(number / 1000) or _from_microseconds(number) or _from_microseconds(number // 1000)
    else:
        moment = None
    if moment is None:
        units = "" if size <= _SECONDS_UP_TO else ", be it milliseconds, microseconds or nanoseconds since the epoch"
        _reject(_OUTSIDE + units)
    return moment


def from_epoch(seconds: float) -> datetime | None:
    """None where that is no moment of the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _from_microseconds(number: float) -> datetime | None:
    """In whole numbers: the third power of a thousand is beyond what a float tells apart."""
    try:
        return _EPOCH + timedelta(microseconds=number)
    except OverflowError:
        return None


def _reject(reason: str) -> NoReturn:
    raise Rejected("decode", "bad_timestamp", reason)
