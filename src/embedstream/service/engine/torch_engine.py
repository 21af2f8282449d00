"""The engine that needs sentence-transformers, which is not installed with embedstream."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstream.errors import ConfigError
from embedstream.service.engine.model import revision
from embedstream.service.engine.protocol import EngineFacts
from embedstream.service.engine.tokens import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.engine.tokens import Ids
    from embedstream.space import Tokenizer


class SentenceTransformersEngine:
    """Runs a model with PyTorch in float32, each worker on one thread: slower, but for any network.

    Raises ConfigError if sentence-transformers is not installed, or cannot load the model.
    """

    def __init__(self, model: Model, workers: int) -> None:
        self.workers = workers
        self.tokenize = TextTokenizer(model)
        self.vocabulary = self.tokenize.vocabulary
        self.facts = EngineFacts(
            model_name=model.name,
            model_revision=revision(model),
            embedding_dimension=model.dimension,
            normalised=model.normalised,
            max_tokens=model.max_tokens,
            engine="sentence-transformers",
            precision="f32",
            hub_commit=model.hub_commit,
        )
        self._encoder, self._torch = _load(model)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokenize.described

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        self._infer([np.zeros(1, np.int32)])
        return self._infer

    def _infer(self, texts: Sequence[Ids]) -> Vectors:
        length = max(len(ids) for ids in texts)
        ids, mask = np.zeros((2, len(texts), length), np.int64)
        for row, own in enumerate(texts):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        with self._torch.inference_mode():
            given = {"input_ids": self._torch.from_numpy(ids), "attention_mask": self._torch.from_numpy(mask)}
            vectors: Vectors = self._encoder(given)["sentence_embedding"].numpy()
        return vectors


def _load(model: Model) -> tuple[Any, Any]:
    # All that it needs was fetched before: its own libraries ask nobody.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import sentence_transformers  # noqa: PLC0415 - only who asks for this engine has it
        import torch  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigError(
            f"EMBEDDING_ENGINE is sentence-transformers, which cannot be imported ({exc}): "
            "pip install sentence-transformers"
        ) from exc
    torch.set_num_threads(1)
    try:
        encoder = sentence_transformers.SentenceTransformer(str(model.root), device="cpu", local_files_only=True)
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigError(f"sentence-transformers cannot load {model.root}: {exc}") from exc
    return encoder.float().eval(), torch
