"""Values that JSON has no form of, as the strings and numbers that stand for them in plain values."""

from __future__ import annotations

import base64
import binascii
from datetime import date
from functools import lru_cache

import numpy as np

MILLIS, MICROS, NANOS = 1000, 1_000_000, 1_000_000_000
"""How many of a unit a second has."""
_FRACTIONS = {MILLIS: ".%03d", MICROS: ".%06d", NANOS: ".%09d"}
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAYS = range(date.min.toordinal() - _EPOCH_DAY, date.max.toordinal() - _EPOCH_DAY + 1)
_DAY_SECONDS = 86_400


def base64_text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def bytes_of(text: str) -> bytes:
    """Of base64; raises ValueError."""
    return base64.b64decode(text, validate=True)


def decimal_text(unscaled: bytes, scale: int) -> str:
    """All digits of a two's-complement big-endian number over 10 to the power of `scale`, without an exponent."""
    number = int.from_bytes(unscaled, "big", signed=True)
    if scale <= 0:
        return str(number * 10**-scale)
    digits = str(abs(number)).zfill(scale + 1)
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def date_text(days: int) -> str | int:
    """The day since the epoch in ISO 8601; as it is outside of the years 1 to 9999."""
    return _day(days) if days in _DAYS else days


def time_text(number: int, unit: int) -> str | int:
    """The time of day in ISO 8601; as it is where that is none (MySQL's TIME goes to 838 hours)."""
    seconds, rest = divmod(number, unit)
    return _clock(seconds, rest, unit) if 0 <= seconds < _DAY_SECONDS else number


def timestamp_text(number: int, unit: int, zone: str = "Z") -> str | int:
    """The moment since the epoch in ISO 8601; as it is outside of the years 1 to 9999 (PostgreSQL's infinity).

    A fraction has all digits of its unit.
    """
    seconds, rest = divmod(number, unit)
    days, second = divmod(seconds, _DAY_SECONDS)
    return f"{_day(days)}T{_clock(second, rest, unit)}{zone}" if days in _DAYS else number


def _clock(second: int, rest: int, unit: int) -> str:
    minutes, second = divmod(second, 60)
    clock = f"{_minute(minutes)}:{second:02}"
    return clock + _FRACTIONS[unit] % rest if rest else clock


@lru_cache(4096)  # the records of a topic share their days and minutes
def _day(days: int) -> str:
    return date.fromordinal(days + _EPOCH_DAY).isoformat()


@lru_cache(1440)
def _minute(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def float32(value: float) -> float:
    """The shortest number that is the same in 32 bits: 1.1 instead of 1.100000023841858."""
    return float(str(np.float32(value)))
