"""What the graphs of all models are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstream.service.engine.runtime import op
from embedstream.service.engine.tensors import Tensors
from embedstream.service.engine.weights import Weights

if TYPE_CHECKING:
    from openvino import Node

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.modules import Dense, Pooling
    from embedstream.service.engine.rotary import Activation

FAR = 1e4
"""So low that a score or a value beside it never counts. Not lower: with 1e9 the runtime's attention in bfloat16 gave
vectors at a cosine of 0.9997 to those in float32, up to 1e8 it is 0.99995; in float32 they are the same to the bit.
"""


def parameters() -> tuple[Node, Node]:
    """`ids` int32, and `mask` float32 (1 for a token, 0 for padding), both (texts, length)."""
    return op.parameter([-1, -1], np.int32, name="ids"), op.parameter([-1, -1], np.float32, name="mask")


def pooled(hidden: Node, mask: Node, model: Model) -> Node:
    """(texts, length, width) to the texts' vectors."""
    vectors = _pooled(hidden, mask, model.pooling)
    for dense in model.denses:
        vectors = _through(dense, vectors)
    if model.dimension < model.whole:
        vectors = op.slice(vectors, axes(0), axes(model.dimension), axes(1), axes(1))
    return op.normalize_l2(vectors, axes(1), 1e-24, "max") if model.normalised else vectors


def _pooled(hidden: Node, mask: Node, pooling: Pooling) -> Node:
    if pooling == "cls":
        return op.gather(hidden, axis(0), axis(1))
    if pooling == "last":
        last = op.convert(op.subtract(op.reduce_sum(mask, axes(1), keep_dims=False), number(1)), np.int64)
        return _rows(hidden, last)
    if pooling == "max":
        off = op.multiply(op.subtract(op.unsqueeze(mask, axes(-1)), number(1)), number(FAR))
        return op.reduce_max(op.add(hidden, off), axes(1), keep_dims=False)
    total = op.reduce_sum(op.multiply(hidden, op.unsqueeze(mask, axes(-1))), axes(1), keep_dims=False)
    return op.divide(total, op.reduce_sum(mask, axes(1), keep_dims=True))


def _rows(hidden: Node, places: Node) -> Node:
    """Of each text, what stands at its place."""
    return op.squeeze(op.gather(hidden, op.unsqueeze(places, axes(1)), axis(1), 1), axes(1))


def _through(dense: Dense, vectors: Node) -> Node:
    weights = Weights(Tensors(dense.weights), "linear.")
    matrix = weights.array("weight")
    if matrix.shape != (dense.dimension, dense.width) or dense.bias != weights.has("bias"):
        raise TypeError(f"{dense.weights} holds another Dense than its config.json says")
    product = op.matmul(vectors, op.constant(matrix), False, True)
    product = op.add(product, weights.constant("bias")) if dense.bias else product
    if dense.activation == "identity":
        return product
    return op.tanh(product) if dense.activation == "tanh" else activated(product, dense.activation)


def activated(hidden: Node, activation: Activation) -> Node:
    if activation == "relu":
        return op.relu(hidden)
    if activation == "silu":
        return op.swish(hidden)
    return op.gelu(hidden, "erf" if activation == "gelu" else "tanh")


def centred(hidden: Node, epsilon: float) -> Node:
    return op.mvn(hidden, axes(-1), normalize_variance=True, eps=epsilon, eps_mode="inside_sqrt")


def length_of(ids: Node) -> Node:
    return op.gather(op.shape_of(ids), axes(1), axis(0))


def number(value: float) -> Node:
    return op.constant(np.float32(value))


def axis(value: int) -> Node:
    return op.constant(np.int64(value))


def axes(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))
