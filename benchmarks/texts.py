"""Texts without end that have the words and the length mix of real prose."""

from __future__ import annotations

import hashlib
import random
from functools import cache
from typing import TYPE_CHECKING

from embedstream.corpus import docstrings

if TYPE_CHECKING:
    from collections.abc import Sequence


def prose(count: int, seed: str) -> list[str]:
    """Distinct texts, the same for a seed wherever the Python version is the same: runs of the corpus' words, each as
    long as some docstring (6 to 540 tokens between the first and the last percentile, 63 on average).
    """
    words, lengths = _corpus()
    chance = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        length = chance.choice(lengths)
        start = chance.randrange(len(words) - length)
        made[" ".join(words[start : start + length])] = None
    return list(made)


@cache
def _corpus() -> tuple[list[str], list[int]]:
    texts = [entry.text.split() for entry in docstrings()]
    return [word for words in texts for word in words], [len(words) for words in texts]


def fingerprint(texts: Sequence[str]) -> str:
    """Tells whether two runs had the same texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
