"""The engine that needs sentence-transformers, not installed with embedstream; on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embedstream.errors import ConfigError
from embedstream.service.engine.model import revision
from embedstream.service.engine.precision import SAME_VECTORS, SAME_VECTORS_OF_BF16, choose
from embedstream.service.engine.probe import probe
from embedstream.service.engine.protocol import BATCH_TOKENS, EngineFacts
from embedstream.service.engine.tensors import held_in_bf16
from embedstream.service.engine.tokens import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.precision import Precision, Wanted
    from embedstream.service.engine.probe import Run
    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.engine.tokens import Ids
    from embedstream.space import Tokenizer

    _Encoder = Callable[[dict[str, Any]], dict[str, Any]]

logger = logging.getLogger(__name__)

GPU_WORKERS = 2
"""While one batch is computed, the next is made ready and copied."""
_GPU_BATCH_TOKENS = 32_768
# (texts, tokens) of batches that a worker computes before the first real one.
_WARM_SHAPES = {"cpu": ((1, 1),), "cuda": ((1, 8), (1, 64), (128, 64), (256, 128))}


class SentenceTransformersEngine:
    """Runs a model with PyTorch: each worker on one thread of the CPU, or on a stream of the GPU.

    Raises ConfigError if sentence-transformers is not installed, there is no such device, or it cannot load the model.
    """

    def __init__(
        self, model: Model, workers: int, precision: Wanted = "auto", *, device: str = "cpu",
        batch_tokens: int | None = None,
    ) -> None:  # fmt: skip
        self.workers = workers
        self.tokenize = TextTokenizer(model)
        self.vocabulary = self.tokenize.vocabulary
        self._model = model
        self._device = device
        self._encoder, self._torch = _load(model, device)
        chosen, fidelity = self._choose(precision)
        self.facts = EngineFacts(
            model_name=model.name,
            model_revision=revision(model),
            embedding_dimension=model.dimension,
            normalised=model.normalised,
            max_tokens=model.max_tokens,
            engine="sentence-transformers",
            precision=chosen,
            fidelity=fidelity,
            hub_commit=model.hub_commit,
            batch_tokens=batch_tokens or (BATCH_TOKENS if device == "cpu" else _GPU_BATCH_TOKENS),
            warnings=model.warnings,
        )

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokenize.described

    def _choose(self, wanted: Wanted) -> tuple[Precision, float]:
        """Leaves the encoder in the precision that it returns, with its fidelity."""
        # PyTorch's bfloat16 is no faster on most CPUs.
        if wanted == "f32" or (wanted == "auto" and self._device == "cpu"):
            return "f32", 1.0
        halves = copy.deepcopy(self._encoder).bfloat16()
        probed = probe(self._run(self._encoder), self._run(halves))
        chosen = choose(wanted, probed, SAME_VECTORS_OF_BF16 if self._held_in_bf16() else SAME_VECTORS)
        logger.info(
            "the engine computes in %s: bf16 is %.2f times as fast as f32, at a cosine of %.6f",
            chosen, probed.speed, probed.fidelity, extra={"precision": chosen},
        )  # fmt: skip
        if chosen == "f32":
            return "f32", 1.0
        self._encoder = halves
        return chosen, probed.fidelity

    def _held_in_bf16(self) -> bool:
        weights = getattr(self._model.network, "weights", None)
        return weights is not None and held_in_bf16(weights)

    def _run(self, encoder: _Encoder) -> Run:
        return lambda batches: [
            self._infer(encoder, [tokens.ids for tokens in self.tokenize(texts)]) for texts in batches
        ]

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        stream = self._torch.cuda.Stream() if self._device == "cuda" else None

        def infer(texts: Sequence[Ids]) -> Vectors:
            with self._torch.cuda.stream(stream) if stream else contextlib.nullcontext():
                return self._infer(self._encoder, texts)

        for texts, length in _WARM_SHAPES[self._device]:
            infer([np.zeros(min(length, self.facts.max_tokens), np.int32)] * texts)
        return infer

    def _infer(self, encoder: _Encoder, texts: Sequence[Ids]) -> Vectors:
        length = max(len(ids) for ids in texts)
        ids, mask = np.zeros((2, len(texts), length), np.int64)
        for row, own in enumerate(texts):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        with self._torch.inference_mode():
            given = {"input_ids": self._moved(ids), "attention_mask": self._moved(mask)}
            found: Vectors = encoder(given)["sentence_embedding"].float().cpu().numpy()
        return self._cut(found)

    def _moved(self, numbers: npt.NDArray[np.int64]) -> object:
        tensor = self._torch.from_numpy(numbers)
        # From pinned memory the copy does not wait for what the other worker computes.
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._device == "cuda" else tensor

    def _cut(self, vectors: Vectors) -> Vectors:
        if self._model.dimension == vectors.shape[1]:
            return vectors
        vectors = vectors[:, : self._model.dimension]
        if self._model.normalised:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return vectors


def _load(model: Model, device: str) -> tuple[Any, Any]:
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
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "EMBEDDING_DEVICE is cuda, but PyTorch finds no NVIDIA GPU: start the service where nvidia-smi shows one, "
            "with a PyTorch that is built for CUDA (docs/howto/choose-a-model.md), or set it to cpu"
        )
    torch.set_num_threads(1)
    try:
        # Left to itself it loads in the numbers of the weights, and rounds what is not among them, as Gemma's scale.
        encoder = sentence_transformers.SentenceTransformer(
            str(model.root), device=device, local_files_only=True, model_kwargs={"torch_dtype": torch.float32}
        )
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigError(f"sentence-transformers cannot load {model.root}: {exc}") from exc
    return encoder.float().eval(), torch
