"""Moments as a pipeline's file says they are written: in a unit since the epoch, or as text in a zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from embedstream.decode.expression_checks import ExpressionError
from embedstream.decode.fields import EPOCH, reject
from embedstream.decode.timestamps import parse_timestamp
from embedstream.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.decode.spec import TimestampSource

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MICROSECONDS = 10**6
_DAY_SECONDS = 86_400
# MySQL's own way of saying that there is none.
_ZERO_DATE = re.compile(r"0000-00-00(?:[T ]00:00:00(?:\.0+)?)?Z?")
_ZONED_DATE = re.compile(r"\d{4}-\d\d-\d\dZ", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_OUTSIDE = "the timestamp is outside of the years 1 to 9999"


def reader_of_moments(source: TimestampSource) -> Callable[[Any], datetime | None]:
    """What reads one, as UTC; None for None and for zero dates. Raises ExpressionError for a zone that is not known.

    A text with a zone of its own is taken with any unit; one that falls into the hour that a zone repeats is of the
    first of both.
    """
    unit, zone = source.unit, _zone(source.zone)

    def read(given: Any) -> datetime | None:  # noqa: ANN401 - any JSON
        if given is None:
            return None
        if isinstance(given, str):
            return _from_text(given, unit, zone)
        if unit is None or isinstance(given, bool) or not isinstance(given, int | float):
            return parse_timestamp(given)
        if unit == "iso":
            reject("bad_timestamp", "the timestamp is a number, not a text in ISO 8601 (unit: iso)")
        return _scaled(given, unit)

    return read


def read_moment(given: Any) -> datetime | None:  # noqa: ANN401 - any JSON
    """Without unit and zone."""
    if isinstance(given, str) and (given.startswith("0000") or len(given) == len("2026-01-02Z")):
        return _from_text(given, None, None)
    return given if isinstance(given, datetime) else parse_timestamp(given)


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ExpressionError("there is no such time zone: write one as Europe/Berlin or UTC", path=("zone",)) from None


def _from_text(text: str, unit: str | None, zone: ZoneInfo | None) -> datetime | None:
    if text.startswith("0000-00-00") and _ZERO_DATE.fullmatch(text):
        return None
    if unit is not None and unit != "iso" and _NUMBER.fullmatch(text):
        return _scaled(Decimal(text), unit)
    if _ZONED_DATE.fullmatch(text):
        return parse_timestamp(f"{text[:-1]}T00:00:00Z")
    return _in_zone(text, zone) if zone else parse_timestamp(text)


def _in_zone(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None and "-" in text:  # else digits, which may be a date by chance
            return moment.replace(tzinfo=zone).astimezone(UTC)
    except ValueError:
        pass
    except OverflowError:
        raise Rejected("decode", "bad_timestamp", _OUTSIDE) from None
    return parse_timestamp(text)


def _scaled(number: float | Decimal, unit: str) -> datetime:
    try:
        if unit == "days":
            return EPOCH + timedelta(microseconds=int(number * _DAY_SECONDS * _MICROSECONDS))
        if isinstance(number, float):
            return EPOCH + timedelta(microseconds=round(number * _MICROSECONDS / _PER_SECOND[unit]))
        return EPOCH + timedelta(microseconds=int(number * _MICROSECONDS // _PER_SECOND[unit]))
    except (ArithmeticError, ValueError):
        raise Rejected("decode", "bad_timestamp", f"{_OUTSIDE} (unit: {unit})") from None
