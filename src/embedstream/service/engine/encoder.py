"""BERT and its kin with pooling, as an OpenVINO graph built from a model's weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from embedstream.errors import ConfigError
from embedstream.service.engine.nodes import FAR, activated, axes, axis, centred, length_of, number, parameters, pooled
from embedstream.service.engine.runtime import op, openvino
from embedstream.service.engine.tensors import Tensors
from embedstream.service.engine.weights import Weights

if TYPE_CHECKING:
    from openvino import Node

    from embedstream.service.engine.architectures import Architecture, Encoder
    from embedstream.service.engine.model import Model

_FARTHEST = 128
"""Distances from here on are one to MPNet."""

_WORDS = "embeddings.word_embeddings.weight"


class _Names(NamedTuple):
    """What an architecture calls the parts of a layer; `prefix` is what a head's owner puts before all names."""

    prefix: str
    layer: str
    query: str
    key: str
    value: str
    attended: str
    attended_norm: str
    wide: str
    narrow: str
    norm: str


_BERT = _Names(
    prefix="bert.",
    layer="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attended="attention.output.dense",
    attended_norm="attention.output.LayerNorm",
    wide="intermediate.dense",
    narrow="output.dense",
    norm="output.LayerNorm",
)
_NAMES: dict[Architecture, _Names] = {
    "bert": _BERT,
    "roberta": _BERT._replace(prefix="roberta."),
    "mpnet": _BERT._replace(
        prefix="mpnet.",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attended="attention.attn.o",
        attended_norm="attention.LayerNorm",
    ),
    "distilbert": _Names(
        prefix="distilbert.",
        layer="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attended="attention.out_lin",
        attended_norm="sa_layer_norm",
        wide="ffn.lin1",
        narrow="ffn.lin2",
        norm="output_layer_norm",
    ),
}


def build_encoder(model: Model, encoder: Encoder, *, int8: bool = False) -> openvino.Model:
    """A graph from `parameters()` to float32 (texts, dimension); with `int8` the matrices of its layers are held in
    8 bits.

    Raises ConfigError if the weights are not those of such a model.
    """
    try:
        tensors = Tensors(encoder.weights)
        prefix = "" if _WORDS in tensors else _NAMES[encoder.architecture].prefix
        return _graph(Weights(tensors, prefix, int8=int8), model, encoder)
    except (OSError, KeyError, TypeError, SafetensorError) as exc:
        raise ConfigError(
            f"{encoder.weights} holds no {encoder.architecture} in float32, float16 or bfloat16 ({exc}): "
            "save the model again"
        ) from exc


def _graph(weights: Weights, model: Model, encoder: Encoder) -> openvino.Model:
    ids, mask = parameters()
    # Where a text ends, every score is too low to weigh: shape (texts, 1, 1, length).
    bias = op.multiply(op.subtract(op.unsqueeze(mask, axes(1, 2)), number(1)), number(FAR))
    if encoder.architecture == "mpnet":
        bias = op.add(bias, _by_distance(weights, length_of(ids), model.max_tokens))
    hidden = _embeddings(weights, ids, encoder)
    names = _NAMES[encoder.architecture]
    for layer in range(encoder.layers):
        hidden = _layer(weights.under(f"{names.layer}.{layer}."), hidden, bias, encoder)
    return openvino.Model([pooled(hidden, mask, model)], [ids, mask], encoder.architecture)


def _embeddings(weights: Weights, ids: Node, encoder: Encoder) -> Node:
    words = op.gather(weights.constant(_WORDS), ids, axis(0))
    table = weights.array("embeddings.position_embeddings.weight")
    if encoder.architecture in ("bert", "roberta"):
        # Every token is of type 0.
        table += weights.array("embeddings.token_type_embeddings.weight")[0]
    hidden = op.add(words, _positions(op.constant(table), ids, encoder.padding))
    return _normed(weights, "embeddings.LayerNorm", hidden, encoder.epsilon)


def _positions(table: Node, ids: Node, padding: int | None) -> Node:
    if padding is None:
        return op.slice(table, axes(0), length_of(ids), axes(1), axes(0))
    # A padding token that a text spells out has a position of its own, and is not counted.
    counted = op.convert(op.not_equal(ids, op.constant(np.int32(padding))), np.int32)
    places = op.multiply(op.cum_sum(counted, axis(1)), counted)
    return op.gather(table, op.add(places, op.constant(np.int32(padding))), axis(0))


def _by_distance(weights: Weights, length: Node, max_tokens: int) -> Node:
    """What MPNet adds to the score of a key at some distance from the query: (heads, length, length)."""
    table = weights.array("encoder.relative_attention_bias.weight")
    distances = np.arange(1 - max_tokens, max_tokens)
    scores = op.constant(table[_buckets(distances, len(table))].T)
    places = op.range(axis(0), op.squeeze(length, axes(0)), axis(1), "i64")
    index = op.subtract(op.unsqueeze(places, axes(0)), op.unsqueeze(places, axes(1)))
    return op.gather(scores, op.add(index, axis(max_tokens - 1)), axis(1))


def _buckets(distances: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """T5's buckets: half for keys after the query; of each half, one for each small distance, then ever wider ones."""
    half = count // 2
    near = half // 2
    far = np.abs(distances).astype(np.float32)
    widened = np.log(np.maximum(far, 1) / near) / np.float32(math.log(_FARTHEST / near)) * (half - near)
    wide = np.minimum(near + widened.astype(np.int64), half - 1)
    buckets: npt.NDArray[np.int64] = (distances > 0) * half + np.where(far < near, np.abs(distances), wide)
    return buckets


def _layer(weights: Weights, hidden: Node, bias: Node, encoder: Encoder) -> Node:
    names = _NAMES[encoder.architecture]
    attended = _dense(weights, names.attended, _attention(weights, hidden, bias, encoder))
    hidden = _normed(weights, names.attended_norm, op.add(hidden, attended), encoder.epsilon)
    wide = activated(_dense(weights, names.wide, hidden), encoder.activation)
    return _normed(weights, names.norm, op.add(hidden, _dense(weights, names.narrow, wide)), encoder.epsilon)


def _attention(weights: Weights, hidden: Node, bias: Node, encoder: Encoder) -> Node:
    names, swap = _NAMES[encoder.architecture], axes(0, 2, 1, 3)
    query, key, value = (
        op.transpose(op.reshape(_dense(weights, name, hidden), axes(0, 0, encoder.heads, -1), True), swap)
        for name in (names.query, names.key, names.value)
    )
    attended = op.scaled_dot_product_attention(query, key, value, bias)
    return op.reshape(op.transpose(attended, swap), axes(0, 0, -1), True)


def _dense(weights: Weights, name: str, hidden: Node) -> Node:
    product = op.matmul(hidden, weights.matrix(f"{name}.weight"), transpose_a=False, transpose_b=True)
    return op.add(product, weights.constant(f"{name}.bias"))


def _normed(weights: Weights, name: str, hidden: Node, epsilon: float) -> Node:
    return op.add(
        op.multiply(centred(hidden, epsilon), weights.constant(f"{name}.weight")), weights.constant(f"{name}.bias")
    )
