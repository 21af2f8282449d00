"""Static models: the mean of a text's tokens' vectors, from a table; nothing but NumPy is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import STATIC_TABLES
from embedstream.service.engine.model import revision
from embedstream.service.engine.protocol import EngineFacts
from embedstream.service.engine.tensors import Tensors
from embedstream.service.engine.tokens import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.engine.architectures import Static
    from embedstream.service.engine.model import Model
    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.engine.tensors import Array
    from embedstream.service.engine.tokens import Ids
    from embedstream.space import Tokenizer

_SHORT = 8192
"""Of longer texts, each token's vector is taken once: a copy for each of a million tokens would fill the memory."""
_BATCH_TOKENS = 16_384


class StaticEngine:
    """Looks vectors up, in the threads of its workers.

    Raises ConfigError if the table cannot be used, or is another one than the tokenizer's.
    """

    def __init__(self, model: Model, network: Static, workers: int) -> None:
        self.workers = workers
        self.tokenize = TextTokenizer(model)
        self.vocabulary = self.tokenize.vocabulary
        self._normalised = model.normalised
        table = _table(network)
        if self.vocabulary > len(table):
            raise ConfigError(
                f"the tokenizer beside {network.weights} has {self.vocabulary} tokens, but the table {len(table)}: "
                "use a directory in which both are the same model's"
            )
        self._table = np.ascontiguousarray(table[:, : model.dimension])
        self.facts = EngineFacts(
            model_name=model.name,
            model_revision=revision(model),
            embedding_dimension=model.dimension,
            normalised=model.normalised,
            max_tokens=model.max_tokens,
            engine="static",
            precision="f32",
            batch_tokens=_BATCH_TOKENS,
            warnings=model.warnings,
        )

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokenize.described

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        return self._vectors

    def _vectors(self, texts: Sequence[Ids]) -> Vectors:
        rows = np.stack([self._mean(ids) for ids in texts])
        if self._normalised:
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
        return rows

    def _mean(self, ids: Ids) -> Array:
        if len(ids) <= _SHORT:
            return np.asarray(self._table[ids].mean(axis=0))
        own, counts = np.unique(ids, return_counts=True)
        return np.asarray((counts / len(ids)).astype(np.float32) @ self._table[own])


def _table(network: Static) -> Array:
    """(tokens, dimension); of model2vec's, tokens may share a row, and have a weight of their own.

    Raises ConfigError.
    """
    tensors = Tensors(network.weights)
    try:
        name = next(name for name in STATIC_TABLES if name in tensors)
        table = tensors.raw(name)
        if "mapping" in tensors and name == STATIC_TABLES[1]:
            table = table[tensors.raw("mapping").astype(np.int64)]
        table = table.astype(np.float32, copy=False)
        if "weights" in tensors and name == STATIC_TABLES[1]:
            table = table * tensors.raw("weights").astype(np.float32)[:, None]
    except (IndexError, TypeError, ValueError) as exc:
        raise ConfigError(
            f"{network.weights} holds no table of vectors ({exc}): use a complete model directory"
        ) from exc
    return table
