"""Which numbers the engine computes in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import Encoder
from embedstream.service.engine.inference import build, compiled
from embedstream.service.engine.probe import PROBE, Died, Probed, Trial, least_cosine, probe, probe_apart
from embedstream.service.engine.rotary import Rotary
from embedstream.service.engine.runtime import core
from embedstream.service.engine.tensors import held_in_bf16

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.probe import Run
    from embedstream.service.engine.runtime import openvino

logger = logging.getLogger(__name__)

Precision = Literal["f32", "bf16", "int8"]
Wanted = Literal["auto", "f32", "bf16", "int8"]

SAME_VECTORS = 0.9999
"""A cosine from which on two precisions may share a table."""
SAME_VECTORS_OF_BF16 = 0.999
"""That cosine for a model whose weights are bfloat16 themselves, so that its makers' own vectors are no nearer."""

_SAME_TEXT = 0.99999
_FASTER = 1.1
_LEAST_INT8 = 0.99


class Compiled(NamedTuple):
    """A model that is ready to run, and the smallest cosine of its probed vectors with those of float32."""

    model: openvino.CompiledModel
    precision: Precision
    fidelity: float


def compile_model(
    model: Model, workers: int, wanted: Wanted, open_run: Callable[[openvino.CompiledModel], Run]
) -> Compiled:
    """The model in the precision that is wanted; what was chosen, and why, is one line of the log.

    Raises ConfigError if the weights cannot be used, or not in that precision.
    """
    able = _computes_bf16()
    if wanted == "bf16" and not able:
        raise ConfigError("EMBEDDING_PRECISION is bf16, which this CPU has no instructions for: set it to auto")
    if wanted == "int8":
        return _in_int8(model, workers, open_run)
    if wanted == "f32" or not able:
        return _in_f32(model, workers, "it was asked for" if able else "the CPU has no instructions for bf16")
    return _in_bf16_where_it_serves(model, workers, wanted)


def _in_f32(model: Model, workers: int, reason: str) -> Compiled:
    exact = compiled(build(model), workers, "f32")
    _log("f32", reason)
    return Compiled(exact, "f32", 1.0)


def _in_int8(model: Model, workers: int, open_run: Callable[[openvino.CompiledModel], Run]) -> Compiled:
    exact, coarse = (compiled(build(model, int8=int8), workers, "f32") for int8 in (False, True))
    probed = probe(open_run(exact), open_run(coarse))
    choose("int8", probed)
    _log("int8", _finding("int8", probed))
    return Compiled(coarse, "int8", probed.fidelity)


def _in_bf16_where_it_serves(model: Model, workers: int, wanted: Literal["auto", "bf16"]) -> Compiled:
    try:
        probed = probe_apart(Trial(model, workers))
    except Died as exc:
        # Where the model is to blame, this says so.
        exact = _in_f32(model, workers, f"trying bf16 ended by {exc}")
        if wanted == "bf16":
            raise ConfigError(f"EMBEDDING_PRECISION is bf16, but trying it ended by {exc}: set it to auto") from exc
        return exact
    if choose(wanted, probed, _same_vectors(model)) == "f32":
        return _in_f32(model, workers, _finding("bf16", probed))
    coarse = compiled(build(model), workers, "bf16")
    _log("bf16", _finding("bf16", probed))
    return Compiled(coarse, "bf16", probed.fidelity)


def _same_vectors(model: Model) -> float:
    network = model.network
    if isinstance(network, Encoder | Rotary) and held_in_bf16(network.weights):
        return SAME_VECTORS_OF_BF16
    return SAME_VECTORS


def _finding(precision: Precision, probed: Probed) -> str:
    return f"{precision} is {probed.speed:.2f} times as fast as f32, at a cosine of {probed.fidelity:.6f}"


def _computes_bf16() -> bool:
    # Elsewhere it is emulated, and some 30 times slower.
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def choose(wanted: Wanted, probed: Probed, same: float | None = None) -> Precision:
    """What to run, where two precisions may share a table from the cosine `same` on.

    Raises ConfigError where the precision that is wanted spoils the vectors.
    """
    exact_enough = probed.fidelity >= (_LEAST_INT8 if wanted == "int8" else same or SAME_VECTORS)
    if wanted == "auto":
        return "bf16" if exact_enough and probed.speed >= _FASTER else "f32"
    if not exact_enough:
        raise ConfigError(
            f"in {wanted} this model's vectors have a cosine of only {probed.fidelity:.6f} with those in f32: "
            "set EMBEDDING_PRECISION to auto"
        )
    return wanted


def check_mates(run: Run, graph: Path) -> None:
    """Raises ConfigError where a text's vector depends on which texts are computed with it."""
    texts = [text for batch in PROBE for text in batch]
    alone = np.concatenate(run([[text] for text in texts]))
    cosine = least_cosine(np.concatenate(run(PROBE)), alone)
    if not cosine >= _SAME_TEXT:
        raise ConfigError(
            f"in {graph} a text's vector depends on the texts beside it (cosine {cosine:.6f} to itself): "
            "export the model without dynamic quantisation"
        )


def _log(precision: Precision, reason: str) -> None:
    logger.info("the engine computes in %s: %s", precision, reason, extra={"precision": precision})
