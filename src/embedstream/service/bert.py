"""BERT with pooling, as an OpenVINO graph built from a model's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from embedstream.errors import ConfigError
from embedstream.service.runtime import op, openvino

if TYPE_CHECKING:
    from openvino import Node

    from embedstream.service.model import Activation, Model

_FAR = 1e9
_LARGEST_INT8 = 127


def build_bert(model: Model, *, int8: bool = False) -> openvino.Model:
    """A graph in which `ids` int32 and `mask` float32 (1 for a token, 0 for padding), both (texts, length), give
    float32 (texts, dimension); with `int8` the matrices of its layers are held in 8 bits.

    Raises ConfigError if the weights are not those of such a model.
    """
    try:
        with safe_open(model.weights, framework="np") as file:
            prefix = "" if "embeddings.word_embeddings.weight" in file.keys() else "bert."  # noqa: SIM118 - no mapping
            return _graph(_Weights(file, prefix, int8=int8), model)
    except (OSError, TypeError, SafetensorError) as exc:
        raise ConfigError(f"{model.weights} holds no BERT in float32 or float16 ({exc}): save the model again") from exc


def _graph(weights: _Weights, model: Model) -> openvino.Model:
    ids = op.parameter([-1, -1], np.int32, name="ids")
    mask = op.parameter([-1, -1], np.float32, name="mask")
    # Where a text ends, every score is too low to weigh: shape (texts, 1, 1, length).
    bias = op.multiply(op.subtract(op.unsqueeze(mask, _axes(1, 2)), _number(1)), _number(_FAR))
    hidden = _embeddings(weights, ids, model.epsilon)
    for layer in range(model.layers):
        hidden = _layer(weights.under(f"encoder.layer.{layer}."), hidden, bias, model)
    return openvino.Model([_pooled(hidden, mask, model)], [ids, mask], "bert")


class _Tensors(Protocol):
    def get_tensor(self, name: str) -> npt.NDArray[np.generic]: ...


class _Weights:
    """The tensors under one prefix of a safetensors file, as float32."""

    def __init__(self, file: _Tensors, prefix: str, *, int8: bool) -> None:
        self._file = file
        self._prefix = prefix
        self._int8 = int8

    def under(self, prefix: str) -> _Weights:
        return _Weights(self._file, self._prefix + prefix, int8=self._int8)

    def array(self, name: str) -> npt.NDArray[np.float32]:
        return self._file.get_tensor(self._prefix + name).astype(np.float32)

    def constant(self, name: str) -> Node:
        return op.constant(self.array(name))

    def matrix(self, name: str) -> Node:
        """In 8 bits where that is wanted: whole numbers from -127 to 127, and a scale for each row."""
        rows = self.array(name)
        if not self._int8:
            return op.constant(rows)
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / _LARGEST_INT8, np.finfo(np.float32).tiny)
        whole = np.rint(rows / scales).astype(np.int8)
        return op.multiply(op.convert(op.constant(whole), np.float32), op.constant(scales))


def _embeddings(weights: _Weights, ids: Node, epsilon: float) -> Node:
    words = op.gather(weights.constant("embeddings.word_embeddings.weight"), ids, _axis(0))
    # Every token is of type 0.
    positions = weights.array("embeddings.position_embeddings.weight")
    positions = op.constant(positions + weights.array("embeddings.token_type_embeddings.weight")[0])
    length = op.gather(op.shape_of(ids), _axes(1), _axis(0))
    hidden = op.add(words, op.slice(positions, _axes(0), length, _axes(1), _axes(0)))
    return _normed(weights, "embeddings.LayerNorm", hidden, epsilon)


def _layer(weights: _Weights, hidden: Node, bias: Node, model: Model) -> Node:
    attended = _dense(weights, "attention.output.dense", _attention(weights, hidden, bias, model.heads))
    hidden = _normed(weights, "attention.output.LayerNorm", op.add(hidden, attended), model.epsilon)
    wide = _activated(_dense(weights, "intermediate.dense", hidden), model.activation)
    return _normed(weights, "output.LayerNorm", op.add(hidden, _dense(weights, "output.dense", wide)), model.epsilon)


def _attention(weights: _Weights, hidden: Node, bias: Node, heads: int) -> Node:
    swap = _axes(0, 2, 1, 3)
    query, key, value = (
        op.transpose(op.reshape(_dense(weights, f"attention.self.{name}", hidden), _axes(0, 0, heads, -1), True), swap)
        for name in ("query", "key", "value")
    )
    attended = op.scaled_dot_product_attention(query, key, value, bias)
    return op.reshape(op.transpose(attended, swap), _axes(0, 0, -1), True)


def _activated(hidden: Node, activation: Activation) -> Node:
    if activation == "relu":
        return op.relu(hidden)
    return op.gelu(hidden, "erf" if activation == "gelu" else "tanh")


def _pooled(hidden: Node, mask: Node, model: Model) -> Node:
    if model.pooling == "cls":
        vectors = op.gather(hidden, _axis(0), _axis(1))
    else:
        total = op.reduce_sum(op.multiply(hidden, op.unsqueeze(mask, _axes(-1))), _axes(1), keep_dims=False)
        vectors = op.divide(total, op.reduce_sum(mask, _axes(1), keep_dims=True))
    return op.normalize_l2(vectors, _axes(1), 1e-24, "max") if model.normalised else vectors


def _dense(weights: _Weights, name: str, hidden: Node) -> Node:
    product = op.matmul(hidden, weights.matrix(f"{name}.weight"), transpose_a=False, transpose_b=True)
    return op.add(product, weights.constant(f"{name}.bias"))


def _normed(weights: _Weights, name: str, hidden: Node, epsilon: float) -> Node:
    centred = op.mvn(hidden, _axes(-1), normalize_variance=True, eps=epsilon, eps_mode="inside_sqrt")
    return op.add(op.multiply(centred, weights.constant(f"{name}.weight")), weights.constant(f"{name}.bias"))


def _number(value: float) -> Node:
    return op.constant(np.float32(value))


def _axis(value: int) -> Node:
    return op.constant(np.int64(value))


def _axes(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))
