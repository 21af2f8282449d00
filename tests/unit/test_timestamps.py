from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode.timestamps import parse_timestamp
from embedstream.errors import Rejected

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
SECONDS = int(NOON.timestamp())


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29T12:00:00Z",
        "2024-02-29t12:00:00z",
        "2024-02-29 12:00:00Z",
        "2024-02-29T12:00:00-00:00",
        "2024-02-29T14:30:00.0+02:30",
        "2024-02-29T12:00:00.00000000000000000000z",
        "20240229T120000Z",
    ],
)
def test_forms_of_one_moment(text):
    assert parse_timestamp(text) == NOON


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("1990-12-31t15:59:60.25-08:00", datetime(1991, 1, 1, 0, 0, 0, 250_000, UTC)),
        ("2015-07-01T01:59:60+02:00", datetime(2015, 7, 1, tzinfo=UTC)),
    ],
)
def test_a_leap_second_is_the_first_second_of_the_next_day(text, expected):
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize("fraction", range(1, 31))
def test_a_fraction_may_have_any_number_of_digits(fraction):
    assert parse_timestamp(f"2024-02-29T12:00:00.{'1' * fraction}z").microsecond == int(f"{'1' * min(fraction, 6):0<6}")


@pytest.mark.parametrize("power", [1, 10**3, 10**6, 10**9], ids=["s", "ms", "us", "ns"])
@pytest.mark.parametrize("form", [int, float, str])
def test_the_unit_of_an_epoch_shows_in_its_size(power, form):
    assert parse_timestamp(form(SECONDS * power)) == NOON


def test_microseconds_are_exact():
    assert parse_timestamp(SECONDS * 10**6 + 123_457).microsecond == 123_457
    assert parse_timestamp(SECONDS * 10**9 + 123_457_999).microsecond == 123_457
    assert parse_timestamp(f"{SECONDS}.25").microsecond == 250_000


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (100_000_000_000, "5138-11-16T09:46:40+00:00"),
        (100_000_000_001, "1973-03-03T09:46:40.001000+00:00"),
        (253_402_300_799_000, "9999-12-31T23:59:59+00:00"),
        (253_402_300_800_000, "1978-01-11T21:31:40.800000+00:00"),
        (253_402_300_800_000_000, "1978-01-11T21:31:40.800000+00:00"),
        (-86_400_000_000_000, "1967-04-07T00:00:00+00:00"),
        (-1_000_000_000_000, "1938-04-24T22:13:20+00:00"),
    ],
)
def test_where_one_unit_ends_and_the_next_begins(number, expected):
    assert parse_timestamp(number).isoformat() == expected


@given(st.integers(10**12, 10**13 - 1))
def test_milliseconds_as_a_string_are_those_as_a_number(milliseconds):
    """Some happen to have a month, a day, hours and minutes, too."""
    assert parse_timestamp(str(milliseconds)) == parse_timestamp(milliseconds)


def test_digits_that_look_like_a_date_are_an_epoch():
    assert parse_timestamp("1764120112345") == datetime.fromtimestamp(1_764_120_112.345, UTC)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("20240131", "no time zone"),
        ("2024-02-29T12:00:00", "no time zone: add Z"),
        ("2024-02-29T23:59:60", "no time zone"),
        ("17000000000", "a number in a string, but not of 10 .seconds."),
        ("-1700000000000", "a number in a string"),
        ("1.7e12", "a number in a string"),
        ("2024-02-30T00:00:00Z", "not ISO 8601"),
        ("2024-02-29T12:34:60Z", "only the last minute of a day in UTC"),
        ("2024-02-29T12:00:61Z", "not ISO 8601"),
        ("9999-12-31T23:59:60Z", "outside of the years"),
        ("9999-12-31T23:59:59-01:00", "outside of the years"),
        ("0000-01-01T00:00:00Z", "outside of the years"),
        ("12/31/2024", "not ISO 8601"),
        ("\u0661\u0667\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660", "not ISO 8601"),
        (-99_999_999_999, "outside of the years 1 to 9999$"),
        (10**21, "milliseconds, microseconds or nanoseconds since the epoch"),
        (10**400, "milliseconds, microseconds or nanoseconds since the epoch"),
        (float("inf"), "outside of the years"),
        (True, "neither a string nor a number"),
    ],
)
def test_what_is_refused_says_why(given, says):
    with pytest.raises(Rejected, match=says) as caught:
        parse_timestamp(given)
    assert (caught.value.stage, caught.value.code) == ("decode", "bad_timestamp")


def as_before(number):
    """How a number was read when there were seconds and milliseconds only: rows are stored under these event times."""
    try:
        return datetime.fromtimestamp(number / 1000 if abs(number) > 1e11 else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@given(st.integers(-(10**16), 10**16) | st.floats(-1e16, 1e16) | st.floats(-2e11, 2e11))
def test_what_had_a_meaning_keeps_it(number):
    before = as_before(number)
    if before is not None:
        assert parse_timestamp(number) == before


@given(st.text() | st.text("0123456789TtZz:.+- ") | st.floats() | st.integers())
def test_anything_is_a_moment_or_rejected(given):
    try:
        moment = parse_timestamp(given)
    except Rejected:
        return
    assert moment.tzinfo is UTC
