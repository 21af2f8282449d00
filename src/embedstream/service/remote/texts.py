"""Texts as they are sent: with their prompt, and cut to what the model reads where its tokenizer is at hand."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from tokenizers import Tokenizer

from embedstream import space
from embedstream.errors import ConfigError
from embedstream.service.engine.tokens import Query

if TYPE_CHECKING:
    from pathlib import Path

_BYTES_A_TOKEN = 4


class Prepared(NamedTuple):
    """`tokens` is what the request is reckoned to cost, `token_count` that of the whole text, None where not known."""

    sent: str
    key: bytes
    tokens: int
    token_count: int | None


class Texts:
    """Without a tokenizer nothing is cut, and nothing counted."""

    def __init__(self, prompt: str, query_prompt: str, max_tokens: int, tokenizer: Path | None) -> None:
        """Raises ConfigError where the tokenizer cannot be read, or leaves nothing to a text."""
        self._prompt = prompt
        self._query_prompt = query_prompt
        self._max_tokens = max_tokens
        self._tokenizer: Tokenizer | None = None
        self._content = ""
        if tokenizer is None:
            return
        self._tokenizer, self._content = _read(tokenizer)
        for own in (prompt, query_prompt):
            if len(self._tokenizer.encode(own).ids) >= max_tokens:
                raise ConfigError(
                    f"the remote model reads {max_tokens} tokens, which the prompt and REMOTE_TOKENIZER's own tokens "
                    "take up: set REMOTE_TEXT_TOKENS higher, or a shorter prompt"
                )

    @property
    def described(self) -> space.Tokenizer | None:
        """For who cuts texts to size."""
        if self._tokenizer is None:
            return None
        return space.Tokenizer(self._content, self._max_tokens, len(self._tokenizer.encode(self._prompt).ids))

    def prepare(self, text: str) -> Prepared:
        whole = (self._query_prompt if isinstance(text, Query) else self._prompt) + text
        count, tokens = None, 0
        if self._tokenizer:
            count = tokens = len(self._tokenizer.encode(whole).ids)
            if count > self._max_tokens:
                whole, tokens = self._cut(self._tokenizer, whole)
        encoded = whole.encode()
        # Servers estimate, too, and some count bytes: the larger number keeps within both.
        reckoned = max(1, tokens, -(-len(encoded) // _BYTES_A_TOKEN))
        return Prepared(whole, hashlib.sha256(encoded).digest(), reckoned, count)

    def _cut(self, tokenizer: Tokenizer, whole: str) -> tuple[str, int]:
        """The longest beginning that the model reads: a piece may become several where the text ends after it."""
        encoded = tokenizer.encode(whole)
        ends = [
            end for (_, end), special in zip(encoded.offsets, encoded.special_tokens_mask, strict=True) if not special
        ]
        left = self._max_tokens - sum(encoded.special_tokens_mask)
        while left > 0:
            beginning = whole[: ends[left - 1]]
            tokens = len(tokenizer.encode(beginning).ids)
            if tokens <= self._max_tokens:
                return beginning, tokens
            left -= tokens - self._max_tokens
        return whole[:1], 1


def _read(path: Path) -> tuple[Tokenizer, str]:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # the library raises Exception itself
        raise ConfigError(f"REMOTE_TOKENIZER={path} cannot be read as a tokenizer.json: {exc}") from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, tokenizer.to_str()
