"""A dead letter, and which of them somebody means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from embedstream import kafka
from embedstream.display import printable
from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

    from confluent_kafka import Message

    from embedstream.settings import Settings

PREFIX = "dlq."
STAGES = ("decode", "embed", "store")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Place(NamedTuple):
    """A record's coordinates within its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"\d{1,9}:\d{1,18}", text, re.ASCII):
            raise ConfigError(f"{text!r}: write PARTITION:OFFSET, such as 0:4711")
        partition, _, offset = text.partition(":")
        return cls(int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the headers say; `origin` is where the message stood in topic `topic`, with its timestamp in milliseconds.

    Without an origin the record was not written by the job. `omitted` names what was too large for a dead letter.
    """

    place: Place
    at: datetime
    stage: str
    code: str
    reason: str
    attempts: int
    topic: str
    origin: Place | None
    timestamp: int | None
    replayed: Place | None
    omitted: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of the dead-letter topic: what it says of itself, and the message as it came."""

    facts: Facts
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def own_headers(self) -> tuple[tuple[str, bytes | None], ...]:
        """Those that the producer gave it."""
        return tuple(header for header in self.headers if not header[0].startswith(PREFIX))


class Filter(NamedTuple):
    """Which dead letters are meant; None means all."""

    stage: str | None = None
    code: str | None = None
    since: datetime | None = None
    places: frozenset[Place] | None = None

    def takes(self, facts: Facts) -> bool:
        return (
            self.stage in (None, facts.stage)
            and self.code in (None, facts.code)
            and (self.since is None or facts.at >= self.since)
            and (self.places is None or facts.place in self.places)
        )


def filter_of(stage: str | None, code: str | None, since: str | None, places: Iterable[str] | None = None) -> Filter:
    """As people write one; raises ConfigError for what means nothing."""
    if stage not in (None, *STAGES, "?"):
        raise ConfigError(f"--stage {stage}: there are decode, embed and store")
    moment = parse_since(since, datetime.now(UTC)) if since else None
    return Filter(stage, code, moment, frozenset(map(Place.parse, places)) if places else None)


def read(settings: Settings, ranges: Mapping[int, tuple[int, int]] | None = None) -> Iterator[DeadLetter]:
    """All dead letters that there are at the call, or those in ranges of offsets, in the order of each partition."""
    return map(of_record, kafka.read(settings, settings.kafka_dead_letter_topic, ranges))


def read_one(settings: Settings, place: Place) -> DeadLetter:
    for letter in read(
        settings, {place.partition: (place.offset, place.offset + 1)} if exists(settings, place) else {}
    ):
        return letter
    raise ConfigError(f"topic {settings.kafka_dead_letter_topic} has no record {place}")


def exists(settings: Settings, place: Place) -> bool:
    first, end = kafka.extent(settings, settings.kafka_dead_letter_topic).get(place.partition, (0, 0))
    return first <= place.offset < end


def of_record(message: Message) -> DeadLetter:
    headers = kafka.headers_of(message)
    return DeadLetter(_facts(message, headers), message.key(), message.value(), tuple(headers.items()))


def _facts(message: Message, headers: Mapping[str, bytes | None]) -> Facts:
    said = {name.removeprefix(PREFIX): _text(value) for name, value in headers.items() if name.startswith(PREFIX)}
    written = datetime.fromtimestamp(max(0, message.timestamp()[1]) / 1000, UTC)
    moment = _moment(said.get("timestamp"))
    return Facts(
        place=Place(message.partition() or 0, message.offset() or 0),
        at=_moment(said.get("at")) or written,
        stage=said.get("stage", "?"),
        code=said.get("error", "?"),
        reason=said.get("reason", "no dead letter of embedstream's"),
        attempts=_number(said.get("attempts")) or 1,
        topic=said.get("topic", ""),
        origin=_place(said.get("partition"), said.get("offset")),
        timestamp=_milliseconds(moment) if moment else None,
        replayed=replayed_of(headers),
        omitted=said.get("omitted", ""),
    )


def replayed_of(headers: Mapping[str, bytes | None]) -> Place | None:
    """Where the message stood before it was sent again, if this record is of a replay."""
    return _place(*_text(headers.get(f"{PREFIX}replayed")).partition("-")[::2])


def _place(partition: str | None, offset: str | None) -> Place | None:
    numbers = _number(partition), _number(offset)
    return None if None in numbers else Place(numbers[0] or 0, numbers[1] or 0)


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,18}", text, re.ASCII) else None


def _text(value: bytes | None) -> str:
    """One printable line: anybody may write headers."""
    return printable((value or b"").decode(errors="replace"))


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def parse_since(text: str, now: datetime) -> datetime:
    """A moment in ISO 8601, local time where it has no zone, or how long ago, such as 90s, 30m, 2h, 7d, 1w.

    Raises ConfigError for anything else.
    """
    try:
        if match := re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ConfigError(f"--since {text!r}: write a time such as 2026-01-31T12:00Z, or 30m, 2h, 7d") from None


def newest(letters: Iterable[Facts], limit: int) -> list[Facts]:
    """The last ones, newest last; holds no more than twice as many at a time."""
    kept: list[Facts] = []
    for facts in letters:
        kept.append(facts)
        if len(kept) >= 2 * limit:
            kept = _latest(kept, limit)
    return _latest(kept, limit)


def _latest(letters: list[Facts], limit: int) -> list[Facts]:
    return sorted(letters, key=lambda facts: (facts.at, facts.place))[-limit:]
