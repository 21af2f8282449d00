"""Which messages stand in the input topic once more: what was sent again says in a header where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream import kafka
from embedstream.dead_letters.letter import Place, replayed_of
from embedstream.display import watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from embedstream.display import Watch
    from embedstream.settings import Settings


def beyond(settings: Settings, origins: Iterable[Place]) -> dict[int, tuple[int, int]]:
    """Where they can be: in the partition of each message, beyond the first of these."""
    firsts: dict[int, int] = {}
    for origin in origins:
        firsts[origin.partition] = min(origin.offset, firsts.get(origin.partition, origin.offset))
    extent = kafka.extent(settings, settings.kafka_input_topic) if firsts else {}
    return {n: (max(first + 1, extent[n][0]), extent[n][1]) for n, first in firsts.items() if n in extent}


def repeats(settings: Settings, ranges: Mapping[int, tuple[int, int]], watch: Watch) -> dict[Place, Place]:
    """By where a message stood, where it stands again, of all that do."""
    topic = settings.kafka_input_topic
    found = {}
    for message in watched(watch, f"reading {topic}", kafka.read(settings, topic, ranges), kafka.length(ranges)):
        if origin := replayed_of(kafka.headers_of(message)):
            found[origin] = Place(message.partition() or 0, message.offset() or 0)
    return found
