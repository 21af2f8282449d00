"""How fast this machine can multiply matrices of float32, and how much of that an engine uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from embedstream.service.engine.cpus import usable_cpus
from embedstream.service.engine.runtime import core, op, openvino

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    Matrix = npt.NDArray[np.float32]

SIDE = 1536
REPEATS = 20


def peak_gflops() -> float:
    """The best of some large multiplications by OpenVINO and by numpy, on all CPUs."""
    left, right = np.random.default_rng(1).random((2, SIDE, SIDE), np.float32)
    return max(_best(lambda: np.matmul(left, right)), _best(_openvino(left, right)))


def _openvino(left: Matrix, right: Matrix) -> Callable[[], object]:
    parameter = op.parameter([SIDE, SIDE], np.float32)
    graph = openvino.Model([op.matmul(parameter, op.constant(right), False, False)], [parameter])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cpus(), "ENABLE_CPU_PINNING": False}
    request = core().compile_model(graph, "CPU", options).create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)


def _best(multiply: Callable[[], object]) -> float:
    multiply()
    return max(2 * SIDE**3 / 1e9 / _seconds(multiply) for _ in range(REPEATS))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def gflop(config: Mapping[str, int], tokens: Iterable[int]) -> float:
    """The multiplications and additions of an encoder's matrix products over texts of so many tokens, in 1e9.

    `config` is the model's config.json.

    Per layer and token: four d x d projections, two d x i products, and 2 x n x d for each half of the attention.
    """
    width = config["hidden_size"]
    dense = 2 * (4 * width**2 + 2 * width * config["intermediate_size"])
    return config["num_hidden_layers"] * sum(count * (dense + 4 * count * width) for count in tokens) / 1e9
