"""The vector space that a table is pinned to, and the tokenizer of its model."""

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


class Origin(NamedTuple):
    """Where on the Hugging Face Hub the service has its model from: `revision` is what it was asked for."""

    commit: str
    revision: str

    @property
    def is_pinned(self) -> bool:
        return self.revision == self.commit


class Tokenizer(NamedTuple):
    """How the model cuts a text into tokens: `json` as Hugging Face's tokenizers write it.

    Of the model's `max_tokens`, `reserved_tokens` go to special tokens and to the model's own prompt.
    """

    json: str
    max_tokens: int
    reserved_tokens: int
