"""Texts as the ids that a model reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.service.model import Model

Ids = npt.NDArray[np.int32]

Text = str | list[int]
"""A text, or the ids of its tokens."""

_MULTIPLE = 8


class Query(str):
    """A text to search with; any other is one to be found."""

    __slots__ = ()


class Tokens(NamedTuple):
    """`ids` is what the model reads, shape (length,); `total` counts what the text has, special tokens included."""

    ids: Ids
    total: int


def padded_length(length: int) -> int:
    """Lengths in steps, so that texts of like length share a batch, and an engine meets few shapes."""
    return -(-length // _MULTIPLE) * _MULTIPLE


class TextTokenizer:
    """A model's own tokenizer, without its truncation and padding; threads may share it.

    A text too long for the model keeps its first tokens and the special tokens at both ends. One that comes as ids
    is given the special tokens where it lacks them, and the model's prefix.
    """

    def __init__(self, model: Model) -> None:
        # A huge text then keeps the thread of its own request busy, and not a pool that all requests share.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._tokenizer = Tokenizer.from_file(str(model.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.vocabulary = self._tokenizer.get_vocab_size()
        self._max_tokens = model.max_tokens
        self._prefix = model.prefix
        self._query_prefix = model.query_prefix
        self._lower_case = model.lower_case
        self._tail = _special_tokens_at_end(self._tokenizer)
        self._frame = _Frame(self._tokenizer, self._prefix, self._tail)

    def __call__(self, texts: Sequence[Text]) -> list[Tokens]:
        encoded = iter(
            self._tokenizer.encode_batch_fast([self._whole(text) for text in texts if isinstance(text, str)])
        )
        return [self._cut(next(encoded).ids if isinstance(text, str) else self._frame(text)) for text in texts]

    def _whole(self, text: str) -> str:
        whole = (self._query_prefix if isinstance(text, Query) else self._prefix) + text
        return whole.lower() if self._lower_case else whole

    def _cut(self, ids: list[int]) -> Tokens:
        count = len(ids)
        if count > self._max_tokens:
            ids = ids[: self._max_tokens - self._tail] + ids[count - self._tail :]
        return Tokens(np.array(ids, np.int32), count)


class _Frame:
    """What a tokenizer puts around the ids of a text."""

    def __init__(self, tokenizer: Tokenizer, prefix: str, tail: int) -> None:
        bare, full = tokenizer.encode("").ids, tokenizer.encode(prefix).ids
        self._bare = bare[: len(bare) - tail]
        self._head, self._tail = full[: len(full) - tail], full[len(full) - tail :]

    def __call__(self, ids: list[int]) -> list[int]:
        if ids[: len(self._bare)] == self._bare and ids[len(ids) - len(self._tail) :] == self._tail:
            ids = ids[len(self._bare) : len(ids) - len(self._tail)]
        return [*self._head, *ids, *self._tail]


def _special_tokens_at_end(tokenizer: Tokenizer) -> int:
    mask = tokenizer.encode("a").special_tokens_mask
    return mask[::-1].index(0) if 0 in mask else 0
