"""Embeds with OpenVINO, on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstream.service.engine import exported
from embedstream.service.engine.architectures import Encoder, Exported
from embedstream.service.engine.inference import Worker, open_run
from embedstream.service.engine.model import revision
from embedstream.service.engine.precision import check_mates, compile_model
from embedstream.service.engine.protocol import EngineFacts
from embedstream.service.engine.rotary import Rotary
from embedstream.service.engine.tensors import check_vocabulary
from embedstream.service.engine.tokens import Ids, TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.precision import Wanted
    from embedstream.service.engine.probe import Run
    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.engine.runtime import openvino
    from embedstream.space import Tokenizer

# (texts, length) of common batches: other shapes pay for their first time themselves, some two milliseconds.
_WARM_SHAPES = ((1, 8), (1, 16), (1, 24), (1, 32), (1, 40), (1, 48), (1, 56), (1, 64), (12, 64))


class OpenVinoEngine:
    """Runs a model on the CPU, each worker on one thread.

    Raises ConfigError if the model's weights cannot be used, or not in the precision that is wanted, or if the graph
    of an exported model gives a text another vector among other texts.
    """

    def __init__(self, model: Model, workers: int, precision: Wanted = "f32") -> None:
        self.workers = workers
        self.tokenize = TextTokenizer(model)
        self.vocabulary = self.tokenize.vocabulary
        self._max_tokens = model.max_tokens
        if isinstance(model.network, Encoder | Rotary):
            check_vocabulary(model.network.weights, self.vocabulary)
        if isinstance(model.network, Exported):
            exported.check_vocabulary(model, model.network, self.vocabulary)
        compiled = compile_model(model, workers, precision, self._open_run)
        self._compiled = compiled.model
        if isinstance(model.network, Exported):
            check_mates(self._open_run(self._compiled), model.network.graph)
        self.facts = EngineFacts(
            model_name=model.name,
            model_revision=revision(model, int8=compiled.precision == "int8"),
            embedding_dimension=model.dimension,
            normalised=model.normalised,
            max_tokens=model.max_tokens,
            engine="openvino",
            precision=compiled.precision,
            fidelity=compiled.fidelity,
            hub_commit=model.hub_commit,
            warnings=model.warnings,
        )

    def _open_run(self, compiled: openvino.CompiledModel) -> Run:
        return open_run(compiled, self.tokenize, self._max_tokens)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokenize.described

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        infer = Worker(self._compiled.create_infer_request(), self._max_tokens)
        for texts, length in _WARM_SHAPES:
            infer([np.zeros(min(length, self._max_tokens), np.int32)] * texts)
        return infer
