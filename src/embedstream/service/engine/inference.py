"""A model compiled, and texts' ids through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import Encoder, Exported
from embedstream.service.engine.encoder import build_encoder
from embedstream.service.engine.exported import build_exported
from embedstream.service.engine.rotary import Rotary
from embedstream.service.engine.rotary_graph import build_rotary
from embedstream.service.engine.runtime import core
from embedstream.service.engine.tokens import padded_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.probe import Run
    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.engine.runtime import openvino
    from embedstream.service.engine.tokens import Ids, TextTokenizer


def build(model: Model, *, int8: bool = False) -> openvino.Model:
    """Raises ConfigError if the weights cannot be used, or not in 8 bits."""
    if isinstance(model.network, Encoder):
        return build_encoder(model, model.network, int8=int8)
    if isinstance(model.network, Rotary):
        return build_rotary(model, model.network, int8=int8)
    if not isinstance(model.network, Exported):
        raise ConfigError(f"the network in {model.root} is not known: set EMBEDDING_ENGINE to sentence-transformers")
    if int8:
        raise ConfigError("EMBEDDING_PRECISION is int8, but the model was exported: export it in int8, and set f32")
    return build_exported(model, model.network)


def compiled(graph: openvino.Model, workers: int, precision: Literal["f32", "bf16"]) -> openvino.CompiledModel:
    return core().compile_model(graph, "CPU", _properties(workers, precision))


def _properties(workers: int, precision: Literal["f32", "bf16"]) -> dict[str, Any]:
    return {
        # Left to itself, the runtime takes bfloat16 where the CPU has it.
        "INFERENCE_PRECISION_HINT": precision,
        # With weights in 8 bits it would on some CPUs round what they are multiplied with, too: a text's vector would
        # depend on the machine.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "NUM_STREAMS": workers,
        "INFERENCE_NUM_THREADS": workers,
        # Other processes may be pinned to the same CPUs.
        "ENABLE_CPU_PINNING": False,
    }


def open_run(graph: openvino.CompiledModel, tokenize: TextTokenizer, max_tokens: int) -> Run:
    infer = Worker(graph.create_infer_request(), max_tokens)
    return lambda batches: [infer([tokens.ids for tokens in tokenize(texts)]).copy() for texts in batches]


class Worker:
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
