"""What the graphs of all models are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstream.service.engine.runtime import op

if TYPE_CHECKING:
    from openvino import Node

    from embedstream.service.engine.model import Model

FAR = 1e4
"""So low that a score or a value beside it never counts. Not lower: with 1e9 the runtime's attention in bfloat16 gave
vectors at a cosine of 0.9997 to those in float32, up to 1e8 it is 0.99995; in float32 they are the same to the bit.
"""


def parameters() -> tuple[Node, Node]:
    """`ids` int32, and `mask` float32 (1 for a token, 0 for padding), both (texts, length)."""
    return op.parameter([-1, -1], np.int32, name="ids"), op.parameter([-1, -1], np.float32, name="mask")


def pooled(hidden: Node, mask: Node, model: Model) -> Node:
    """(texts, length, dimension) to the texts' vectors."""
    if model.pooling == "cls":
        vectors = op.gather(hidden, axis(0), axis(1))
    elif model.pooling == "max":
        off = op.multiply(op.subtract(op.unsqueeze(mask, axes(-1)), number(1)), number(FAR))
        vectors = op.reduce_max(op.add(hidden, off), axes(1), keep_dims=False)
    else:
        total = op.reduce_sum(op.multiply(hidden, op.unsqueeze(mask, axes(-1))), axes(1), keep_dims=False)
        vectors = op.divide(total, op.reduce_sum(mask, axes(1), keep_dims=True))
    return op.normalize_l2(vectors, axes(1), 1e-24, "max") if model.normalised else vectors


def number(value: float) -> Node:
    return op.constant(np.float32(value))


def axis(value: int) -> Node:
    return op.constant(np.int64(value))


def axes(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))
