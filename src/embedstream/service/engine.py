"""What turns token ids into vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from embedstream.service.bert import build_bert
from embedstream.service.model import revision
from embedstream.service.runtime import openvino
from embedstream.service.tokens import Ids, Text, TextTokenizer, Tokens, padded_length

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.model import Model

Vectors = npt.NDArray[np.float32]

# (texts, length) of common batches: other shapes pay for their first time themselves, some two milliseconds.
_WARM_SHAPES = ((1, 8), (1, 16), (1, 24), (1, 32), (1, 40), (1, 48), (1, 56), (1, 64), (12, 64))


@dataclass(frozen=True)
class EngineFacts:
    """What the vectors are, and what makes them."""

    model_name: str
    model_revision: str
    embedding_dimension: int
    normalised: bool
    max_tokens: int
    engine: str
    precision: str


class Engine(Protocol):
    """Tokenises in any thread, and infers in as many as it has workers."""

    @property
    def facts(self) -> EngineFacts: ...

    @property
    def workers(self) -> int: ...

    @property
    def vocabulary(self) -> int:
        """How many ids there are; the first is 0."""

    def tokenize(self, texts: Sequence[Text]) -> list[Tokens]: ...

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        """A function for one thread: texts' ids, each of a length from 1 to `max_tokens`, to vectors of shape
        (texts, dimension), which are valid until its next call. It returns ready to run at full speed.
        """


class OpenVinoEngine:
    """Runs a BERT in float32 on the CPU, each worker on one thread.

    Raises ConfigError if the model's weights cannot be used.
    """

    def __init__(self, model: Model, workers: int) -> None:
        self.workers = workers
        self.facts = EngineFacts(
            model_name=model.name,
            model_revision=revision(model),
            embedding_dimension=model.dimension,
            normalised=model.normalised,
            max_tokens=model.max_tokens,
            engine="openvino",
            precision="f32",
        )
        self.tokenize = TextTokenizer(model)
        self.vocabulary = self.tokenize.vocabulary
        self._compiled = openvino.Core().compile_model(build_bert(model), "CPU", _properties(workers))

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        infer = _Worker(self._compiled.create_infer_request(), self.facts.max_tokens)
        for texts, length in _WARM_SHAPES:
            infer([np.zeros(min(length, self.facts.max_tokens), np.int32)] * texts)
        return infer


class _Worker:
    def __init__(self, request: openvino.InferRequest, max_tokens: int) -> None:
        self._request = request
        self._max_tokens = max_tokens

    def __call__(self, texts: Sequence[Ids]) -> Vectors:
        length = min(padded_length(max(len(ids) for ids in texts)), self._max_tokens)
        ids = np.zeros((len(texts), length), np.int32)
        mask = np.zeros((len(texts), length), np.float32)
        for row, own in enumerate(texts):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1.0
        vectors: Vectors = self._request.infer([ids, mask], share_inputs=True, share_outputs=True)[0]
        return vectors


def _properties(workers: int) -> dict[str, Any]:
    return {
        # Left to itself, the runtime takes bfloat16 where the CPU has it.
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": workers,
        "INFERENCE_NUM_THREADS": workers,
        # Other processes may be pinned to the same CPUs.
        "ENABLE_CPU_PINNING": False,
    }
