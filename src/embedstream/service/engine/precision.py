"""Which numbers the engine computes in, and how near its vectors then are to those of float32."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import Encoder, Foreign
from embedstream.service.engine.encoder import build_encoder
from embedstream.service.engine.exported import build_exported
from embedstream.service.engine.runtime import core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.runtime import openvino

    Run = Callable[[Sequence[Sequence[str]]], Sequence[npt.NDArray[np.float32]]]
    """Batches of texts to their vectors."""

logger = logging.getLogger(__name__)

Precision = Literal["f32", "bf16", "int8"]
Wanted = Literal["auto", "f32", "bf16", "int8"]

SAME_VECTORS = 0.9999
"""A cosine from which on two precisions may share a table."""

_SAME_TEXT = 0.99999
_FASTER = 1.1
_LEAST_INT8 = 0.99
_ROUNDS = 3

_SHORT = (
    "Where is my parcel?",
    "The payment failed twice.",
    "Please cancel order 48-1932.",
    "naïve café, Straße, İstanbul",
    "Пароль не подходит",
    "密码错误,请帮我重置账户。",
    "Great service 🙏🙏",
    "7",
)
_LONG = (
    (
        "The ferry to the island leaves at seven in the morning, unless the fog is too thick to see the lighthouse. "
        "Passengers who miss it may wait for the afternoon boat, or walk along the causeway at low tide."
    ),
    "def total(rows: list[int]) -> int:\n    return sum(row for row in rows if row > 0)  # only gains",
    "SELECT id, text FROM messages WHERE created_at > now() - interval '1 day' ORDER BY id;",
    '{"key": [1, 2.5, null, true], "nested": {"text": "a value"}} and <p>an <b>HTML</b> &amp; entity</p>',
)
PROBE = (_SHORT, _LONG)


class Compiled(NamedTuple):
    """A model that is ready to run, and the smallest cosine of its probed vectors with those of float32."""

    model: openvino.CompiledModel
    precision: Precision
    fidelity: float


class Probed(NamedTuple):
    """Of a precision, in terms of float32: the smallest cosine to its vectors, and how many times as fast it is."""

    fidelity: float
    speed: float


def compile_model(
    model: Model, workers: int, wanted: Wanted, open_run: Callable[[openvino.CompiledModel], Run]
) -> Compiled:
    """The model in the precision that is wanted; what was chosen, and why, is one line of the log.

    Raises ConfigError if the weights cannot be used, or not in that precision.
    """
    able = _computes_bf16()
    if wanted == "bf16" and not able:
        raise ConfigError("EMBEDDING_PRECISION is bf16, which this CPU has no instructions for: set it to auto")
    graph = _build(model)
    exact = core().compile_model(graph, "CPU", _properties(workers, "f32"))
    if wanted == "f32" or (wanted == "auto" and not able):
        _log("f32", "it was asked for" if wanted == "f32" else "the CPU has no instructions for bf16")
        return Compiled(exact, "f32", 1.0)
    other: Precision = "int8" if wanted == "int8" else "bf16"
    if other == "int8":
        coarse = core().compile_model(_build(model, int8=True), "CPU", _properties(workers, "f32"))
    else:
        coarse = core().compile_model(graph, "CPU", _properties(workers, "bf16"))
    probed = _probe(open_run(exact), open_run(coarse))
    precision = choose(wanted, probed)
    _log(precision, f"{other} is {probed.speed:.2f} times as fast as f32, at a cosine of {probed.fidelity:.6f}")
    return Compiled(exact, "f32", 1.0) if precision == "f32" else Compiled(coarse, precision, probed.fidelity)


def _build(model: Model, *, int8: bool = False) -> openvino.Model:
    if isinstance(model.network, Encoder):
        return build_encoder(model, model.network, int8=int8)
    if isinstance(model.network, Foreign):
        raise ConfigError(f"the network in {model.root} is not known: set EMBEDDING_ENGINE to sentence-transformers")
    if int8:
        raise ConfigError("EMBEDDING_PRECISION is int8, but the model was exported: export it in int8, and set f32")
    return build_exported(model, model.network)


def _computes_bf16() -> bool:
    # Elsewhere it is emulated, and some 30 times slower.
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def choose(wanted: Wanted, probed: Probed) -> Precision:
    """What to run; raises ConfigError where the precision that is wanted spoils the vectors."""
    exact_enough = probed.fidelity >= (_LEAST_INT8 if wanted == "int8" else SAME_VECTORS)
    if wanted == "auto":
        return "bf16" if exact_enough and probed.speed >= _FASTER else "f32"
    if not exact_enough:
        raise ConfigError(
            f"in {wanted} this model's vectors have a cosine of only {probed.fidelity:.6f} with those in f32: "
            "set EMBEDDING_PRECISION to auto"
        )
    return wanted


def _probe(exact: Run, other: Run) -> Probed:
    # By turns, or a neighbour's moment of load would decide.
    rounds = [(_timed(exact), _timed(other)) for _ in range(_ROUNDS)]
    seconds = [min(timed.seconds for timed in column) for column in zip(*rounds, strict=True)]
    return Probed(least_cosine(*(timed.vectors for timed in rounds[0])), seconds[0] / seconds[1])


class _Timed(NamedTuple):
    vectors: npt.NDArray[np.float32]
    seconds: float


def _timed(run: Run) -> _Timed:
    started = time.perf_counter()
    vectors = np.concatenate(run(PROBE))
    return _Timed(vectors, time.perf_counter() - started)


def least_cosine(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return round(float(((left * right).sum(axis=1) / lengths).min()), 6)


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
