"""Texts as the ids that a model reads."""

from __future__ import annotations

import json
import os
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from embedstream import space
from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.service.engine.model import Model

Ids = npt.NDArray[np.int32]

Text = str | list[int]
"""A text, or the ids of its tokens."""

_MULTIPLE = 8
# SentencePiece's sign for a space, and byte-level ones for space, line feed, tab and carriage return.
_WHITE = "\u2581\u0120\u010a\u0109\u010d \n\t\r"


class Query(str):
    """A text to search with; any other is one to be found."""

    __slots__ = ()


Unseen = Literal["invisible", "unknown"]
"""Why a model sees nothing of a text: there are no pieces, or they all are the one for what is unknown."""


class Tokens(NamedTuple):
    """`ids` is what the model reads, shape (length,); `total` counts what the text has, special tokens included, and
    `unknown` those among them that the vocabulary has no piece for.
    """

    ids: Ids
    total: int
    unknown: int = 0
    unseen: Unseen | None = None


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
        self._content = model.tokenizer.read_bytes()
        self._tokenizer = Tokenizer.from_buffer(self._content)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.vocabulary = self._tokenizer.get_vocab_size()
        self._max_tokens = model.max_tokens
        self._prefix = model.prefix
        self._query_prefix = model.query_prefix
        self._lower_case = model.lower_case
        self._special = model.special_tokens
        self._tail = _special_tokens_at_end(self._tokenizer) if self._special else 0
        self._frame, self._query_frame = (
            _Frame(self._tokenizer, prefix, self._tail, special=self._special)
            for prefix in (self._prefix, self._query_prefix)
        )
        self._check_room(model)
        pieces = json.loads(self._tokenizer.to_str())["model"]
        self._unknown = _unknown_token(pieces, self._tokenizer)
        self._meaningless = _blank_tokens(pieces, self._tokenizer) | {self._unknown}

    @property
    def described(self) -> space.Tokenizer:
        return space.Tokenizer(
            json=_as_used(self._content, lower_case=self._lower_case, special=self._special),
            max_tokens=self._max_tokens,
            reserved_tokens=len(self._frame.empty),
        )

    def _check_room(self, model: Model) -> None:
        taken = max(len(frame.empty) for frame in (self._frame, self._query_frame))
        if taken >= self._max_tokens:
            raise ConfigError(
                f"special tokens and the prompt of {model.name} take {taken} tokens, and of a text {self._max_tokens} "
                "are kept: set EMBEDDING_MAX_TOKENS to more, or a shorter prompt"
            )

    def __call__(self, texts: Sequence[Text]) -> list[Tokens]:
        encoded = iter(
            self._tokenizer.encode_batch_fast(
                [self._whole(text) for text in texts if isinstance(text, str)], add_special_tokens=self._special
            )
        )
        return [
            self._cut(
                next(encoded).ids if isinstance(text, str) else self._frame(text),
                self._query_frame if isinstance(text, Query) else self._frame,
            )
            for text in texts
        ]

    def _whole(self, text: str) -> str:
        whole = (self._query_prefix if isinstance(text, Query) else self._prefix) + text
        return whole.lower() if self._lower_case else whole

    def _cut(self, ids: list[int], frame: _Frame) -> Tokens:
        count, unknown = len(ids), ids.count(self._unknown)
        if count > self._max_tokens:
            ids = ids[: self._max_tokens - self._tail] + ids[count - self._tail :]
        unseen: Unseen | None = None
        # The look at the pieces ends with the first that means something.
        own = islice(ids, frame.start_of_text(ids), len(ids) - self._tail)
        if ids == frame.empty or all(map(self._meaningless.__contains__, own)):
            unseen = "unknown" if unknown else "invisible"
        return Tokens(np.array(ids, np.int32), count, unknown, unseen)


class _Frame:
    """What a tokenizer puts around the ids of a text: `empty` is all of it."""

    def __init__(self, tokenizer: Tokenizer, prefix: str, tail: int, *, special: bool) -> None:
        bare, full = (tokenizer.encode(text, add_special_tokens=special).ids for text in ("", prefix))
        self.empty = full
        self._bare = bare[: len(bare) - tail]
        self._head, self._tail = full[: len(full) - tail], full[len(full) - tail :]

    def start_of_text(self, ids: list[int]) -> int:
        """Where the text begins; where its first piece has the end of the prefix in it, the prefix is part of it."""
        return len(self._head) if ids[: len(self._head)] == self._head else len(self._bare)

    def __call__(self, ids: list[int]) -> list[int]:
        if ids[: len(self._bare)] == self._bare and ids[len(ids) - len(self._tail) :] == self._tail:
            ids = ids[len(self._bare) : len(ids) - len(self._tail)]
        return [*self._head, *ids, *self._tail]


def _as_used(content: bytes, *, lower_case: bool, special: bool) -> str:
    """The file, without its truncation and padding; made from it alone, so that no version of a library changes it."""
    tokenizer = json.loads(content) | {"truncation": None, "padding": None}
    if not special:
        tokenizer["post_processor"] = None
    if lower_case:
        own = [tokenizer["normalizer"]] if tokenizer.get("normalizer") else []
        tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *own]}
    return json.dumps(tokenizer, ensure_ascii=False)


def _special_tokens_at_end(tokenizer: Tokenizer) -> int:
    mask = tokenizer.encode("a").special_tokens_mask
    return mask[::-1].index(0) if 0 in mask else 0


def _unknown_token(model: dict[str, Any], tokenizer: Tokenizer) -> int:
    """The id of what the vocabulary has no piece for; -1 where it has pieces for everything."""
    id = model.get("unk_id") if model["type"] == "Unigram" else tokenizer.token_to_id(model.get("unk_token") or "")
    return -1 if id is None else id


def _blank_tokens(model: dict[str, Any], tokenizer: Tokenizer) -> set[int]:
    """The ids that stand for white space alone; to BERT's tokenizers, which have none, the same signs are text."""
    if model["type"] == "WordPiece":
        return set()
    return {id for piece, id in tokenizer.get_vocab().items() if not piece.strip(_WHITE)}
