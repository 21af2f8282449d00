"""An engine without a model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from embedstream.service.engine.model import FAKE
from embedstream.service.engine.protocol import EngineFacts
from embedstream.service.engine.tokens import Tokens
from embedstream.space import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.engine.tokens import Ids, Text

_DIGEST_BYTES = 32
_VOCABULARY = 30_000
_SPECIAL_TOKENS = 2
FAKE_TOKENS = 256
_WORDS = """{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
"pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
"model": {"type": "WordLevel", "vocab": {"word": 0}, "unk_token": "word"}}"""


class HashEngine:
    """Gives every text a unit vector drawn from the text's hash, the same on every machine.

    For tests, and for measuring what the pipeline around an engine can do at most: the vectors mean nothing.
    A word counts as a token.
    """

    def __init__(self, dimension: int, workers: int = 2, max_tokens: int = FAKE_TOKENS) -> None:
        self.workers = workers
        self.vocabulary = _VOCABULARY
        self.tokenizer = Tokenizer(_WORDS, max_tokens, _SPECIAL_TOKENS)
        self.facts = EngineFacts(
            model_name=f"{FAKE}{dimension}",
            model_revision="1",
            embedding_dimension=dimension,
            normalised=True,
            max_tokens=max_tokens,
            engine="hash",
            precision="f32",
        )

    def tokenize(self, texts: Sequence[Text]) -> list[Tokens]:
        return [
            Tokens(_digest(text), len(text.split() if isinstance(text, str) else text) + _SPECIAL_TOKENS)
            for text in texts
        ]

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        return self._vectors

    def _vectors(self, texts: Sequence[Ids]) -> Vectors:
        size = 2 * self.facts.embedding_dimension
        drawn = b"".join(hashlib.shake_128(ids.tobytes()).digest(size) for ids in texts)
        # Odd numbers, so that no vector is zero.
        rows = (np.frombuffer(drawn, "<i2").reshape(len(texts), -1) | 1).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


def _digest(text: Text) -> Ids:
    content = text.encode() if isinstance(text, str) else np.array(text, "<i4").tobytes()
    return np.frombuffer(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest(), "<i4")
