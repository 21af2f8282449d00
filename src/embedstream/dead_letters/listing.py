"""Which dead letters there are, how many of each kind, and which of them were sent again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from embedstream import kafka
from embedstream.dead_letters import letter as letters
from embedstream.dead_letters.letter import newest
from embedstream.dead_letters.repeats import beyond, repeats
from embedstream.display import watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embedstream.dead_letters.letter import DeadLetter, Facts, Filter, Place
    from embedstream.display import Watch
    from embedstream.settings import Settings

    Counts: TypeAlias = Counter[tuple[str, str]]
    """By stage and code."""


class Span(NamedTuple):
    """The offsets of a partition that were looked at, of those that there are."""

    partition: int
    first: int
    end: int
    log_first: int

    @property
    def is_whole(self) -> bool:
        return self.first == self.log_first


class Mark(NamedTuple):
    """Whether a message was sent again, and where in the input topic it stands then, if it still does."""

    state: Literal["replayed", "not_replayed", "not_known"]
    at: Place | None = None


class Survey(NamedTuple):
    """The newest dead letters that a filter takes, newest last, each with its mark, and what of the topic was read."""

    letters: list[Facts]
    counts: Counts
    marks: dict[Place, Mark]
    looked_at: list[Span]

    @property
    def is_whole(self) -> bool:
        return all(each.is_whole for each in self.looked_at)


def counted(found: Iterable[DeadLetter], wanted: Filter, limit: int) -> tuple[list[Facts], Counts]:
    """The newest that the filter takes, newest last, and how many of each kind there are in all."""
    counts: Counts = Counter()

    def taken() -> Iterator[Facts]:
        for letter in found:
            if wanted.takes(letter.facts):
                counts[letter.facts.stage, letter.facts.code] += 1
                yield letter.facts

    return newest(taken(), limit), counts


def survey(settings: Settings, wanted: Filter, limit: int, most: int, watch: Watch) -> Survey:
    """Look at so many of the newest records of the dead-letter topic, and of the input topic, at `most`."""
    topic = settings.kafka_dead_letter_topic
    extent = kafka.extent(settings, topic)
    ranges = kafka.newest(extent, most)
    sent_again: set[Place] = set()

    def seen() -> Iterator[DeadLetter]:
        for letter in watched(watch, f"reading {topic}", letters.read(settings, ranges), kafka.length(ranges)):
            if letter.facts.replayed:
                sent_again.add(letter.facts.replayed)
            yield letter

    found, counts = counted(seen(), wanted, limit)
    looked_at = [Span(number, *ends, extent[number][0]) for number, ends in sorted(ranges.items())]
    return Survey(found, counts, marks(settings, found, sent_again, most, watch), looked_at)


def marks(
    settings: Settings, found: Iterable[Facts], sent_again: set[Place], most: int, watch: Watch
) -> dict[Place, Mark]:
    """By the place of each dead letter; of a message of another topic none. `sent_again` are known to be so."""
    topic = settings.kafka_input_topic
    origins = {facts.place: facts.origin for facts in found if facts.origin and facts.topic == topic}
    ranges = kafka.newest(beyond(settings, origins.values()), most)
    again = repeats(settings, ranges, watch)

    def mark(origin: Place) -> Mark:
        if origin in again or origin in sent_again:
            return Mark("replayed", again.get(origin))
        is_read = origin.partition in ranges and ranges[origin.partition][0] <= origin.offset + 1
        return Mark("not_replayed" if is_read else "not_known")

    return {place: mark(origin) for place, origin in origins.items()}
