"""The vector space that a table is pinned to."""

from __future__ import annotations

from typing import NamedTuple


class Space(NamedTuple):
    """What makes two vectors comparable; `model_revision` covers weights, tokenizer, pooling and prefixes."""

    model_name: str
    model_revision: str
    dimension: int
    normalised: bool
    max_tokens: int

    def __str__(self) -> str:
        return f"{self.model_name} (revision {self.model_revision}, {self.dimension} dimensions)"
