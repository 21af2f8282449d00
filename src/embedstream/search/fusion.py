"""One list from what is found by meaning and what is found by words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstream.search.answer import Places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from embedstream.search.found import Key, Row

# Reciprocal rank fusion: a place counts as 1 / (K + place). The strict list of words is short, and right where it is
# not empty, so that it counts twice.
K = 60
SEMANTIC_WEIGHT = 1
KEYWORD_WEIGHT = 2
DEPTH = 100


class Fused(NamedTuple):
    key: Key
    score: float
    similarity: float | None
    places: Places


def fuse(semantic: Sequence[Row], keyword: Sequence[Row]) -> list[Fused]:
    """The first DEPTH rows of each, by their places in both; behind them what is left of each.

    So the beginning is the same however much is asked for, and pages neither repeat nor skip.
    """
    heads = {row.key: None for row in (*semantic[:DEPTH], *keyword[:DEPTH])}
    tails = (row.key for row in (*semantic[DEPTH:], *keyword[DEPTH:]))
    by_meaning = {row.key: (place, row.score) for place, row in enumerate(semantic, 1)}
    by_words = {row.key: place for place, row in enumerate(keyword, 1)}

    def fused(key: Key) -> Fused:
        place, similarity = by_meaning.get(key, (None, None))
        places = Places(place, by_words.get(key))
        return Fused(key, _score(places), similarity, places)

    best = sorted((fused(key) for key in heads), key=lambda row: (-row.score, row.key))
    return [*best, *(fused(key) for key in _new(tails, heads))]


def _score(places: Places) -> float:
    """Of places beyond DEPTH, which page by page would come to be known, nothing counts."""
    weighted = ((SEMANTIC_WEIGHT, places.semantic), (KEYWORD_WEIGHT, places.keyword))
    return sum(weight / (K + place) for weight, place in weighted if place and place <= DEPTH)


def _new(keys: Iterable[Key], known: Iterable[Key]) -> Iterator[Key]:
    seen = set(known)
    for key in keys:
        if key not in seen:
            seen.add(key)
            yield key
