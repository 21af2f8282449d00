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

    A text too long for the model keeps its first tokens and the special tokens at both ends.
    """

    def __init__(self, model: Model) -> None:
        # A huge text then keeps the thread of its own request busy, and not a pool that all requests share.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._tokenizer = Tokenizer.from_file(str(model.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._max_tokens = model.max_tokens
        self._prefix = model.prefix
        self._query_prefix = model.query_prefix
        self._lower_case = model.lower_case
        self._tail = _special_tokens_at_end(self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        whole = [self._whole(text) for text in texts]
        return [self._cut(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(whole)]

    def _whole(self, text: str) -> str:
        whole = (self._query_prefix if isinstance(text, Query) else self._prefix) + text
        return whole.lower() if self._lower_case else whole

    def _cut(self, ids: list[int]) -> Tokens:
        count = len(ids)
        if count > self._max_tokens:
            ids = ids[: self._max_tokens - self._tail] + ids[count - self._tail :]
        return Tokens(np.array(ids, np.int32), count)


def _special_tokens_at_end(tokenizer: Tokenizer) -> int:
    mask = tokenizer.encode("a").special_tokens_mask
    return mask[::-1].index(0) if 0 in mask else 0
