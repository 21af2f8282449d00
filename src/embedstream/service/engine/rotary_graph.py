"""Networks with rotary positions and gated products, with pooling, as an OpenVINO graph built from their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError

from embedstream.errors import ConfigError
from embedstream.service.engine.nodes import FAR, activated, axes, axis, centred, length_of, number, parameters, pooled
from embedstream.service.engine.rotary_names import NAMES
from embedstream.service.engine.runtime import op, openvino
from embedstream.service.engine.tensors import Tensors
from embedstream.service.engine.weights import Weights

if TYPE_CHECKING:
    from openvino import Node

    from embedstream.service.engine.model import Model
    from embedstream.service.engine.rotary import Layer, Rotary, Turns
    from embedstream.service.engine.rotary_names import Names
    from embedstream.service.engine.tensors import Array

# Buffers that older files hold, and that are computed here.
_COMPUTED = ("inv_freq",)


def build_rotary(model: Model, network: Rotary, *, int8: bool = False) -> openvino.Model:
    """A graph from `parameters()` to float32 (texts, dimension); with `int8` the matrices of its layers are held in
    8 bits.

    Raises ConfigError if the weights are not those of such a model.
    """
    try:
        tensors = Tensors(network.weights)
        names, prefix = _names(tensors, network)
        graph = _Builder(Weights(tensors, prefix, int8=int8), model, network, names).graph()
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as exc:
        raise ConfigError(
            f"{network.weights} holds no {network.architecture} of this configuration in float32, float16 or bfloat16 "
            f"({str(exc).splitlines()[0]}): use a complete model directory"
        ) from exc
    left = [name for name in tensors.unread(f"{prefix}{names.layer}.") if not name.endswith(_COMPUTED)]
    if left:
        raise ConfigError(
            f"{network.weights} has {left[0]}, which the {network.architecture} that config.json describes has not: "
            "use a complete model directory"
        )
    return graph


def _names(tensors: Tensors, network: Rotary) -> tuple[Names, str]:
    """What this file calls the tensors; raises KeyError."""
    for names in NAMES[network.architecture]:
        for prefix in ("", names.prefix):
            if f"{prefix}{names.layer}.0.{names.attended}.weight" in tensors:
                return names, prefix
    raise KeyError("it has no first layer")


class _Builder:
    def __init__(self, weights: Weights, model: Model, network: Rotary, names: Names) -> None:
        self._weights = weights
        self._model = model
        self._network = network
        self._names = names
        self._ids, self._mask = parameters()
        self._length = length_of(self._ids)
        # Several layers share them.
        self._tables: dict[Turns, tuple[Node, Node]] = {}
        self._biases: dict[int | None, Node] = {}

    def graph(self) -> openvino.Model:
        hidden = self._embeddings()
        for number_, layer in enumerate(self._network.layers):
            hidden = self._layer(self._weights.under(f"{self._names.layer}.{number_}."), hidden, layer)
        if self._names.last_norm:
            hidden = self._normed(self._weights, self._names.last_norm, hidden)
        name = self._network.architecture
        return openvino.Model([pooled(hidden, self._mask, self._model)], [self._ids, self._mask], name)

    def _embeddings(self) -> Node:
        names, weights = self._names, self._weights
        hidden = weights.rows(f"{names.words}.weight", self._ids)
        if self._network.architecture == "gemma3_text":
            hidden = op.multiply(hidden, number(self._model.width**0.5))
        if names.types and weights.has(f"{names.types}.weight"):
            # Every token is of type 0.
            hidden = op.add(hidden, op.constant(weights.array(f"{names.types}.weight")[0]))
        return self._normed(weights, names.words_norm, hidden) if names.words_norm else hidden

    def _layer(self, weights: Weights, hidden: Node, layer: Layer) -> Node:
        names = self._names
        # ModernBERT's first layer has none.
        before = names.before_attention if weights.has(f"{names.before_attention}.weight") else None
        attended = self._attention(weights, self._maybe_normed(weights, before, hidden), layer)
        hidden = self._added(weights, names.after_attention, hidden, attended)
        gated = self._gated(weights, self._maybe_normed(weights, names.before_gated, hidden))
        return self._added(weights, names.after_gated, hidden, gated)

    def _added(self, weights: Weights, norm: str | None, hidden: Node, block: Node) -> Node:
        if self._names.sums_normed:
            return self._maybe_normed(weights, norm, op.add(hidden, block))
        return op.add(hidden, self._maybe_normed(weights, norm, block))

    def _attention(self, weights: Weights, hidden: Node, layer: Layer) -> Node:
        network, names, swap = self._network, self._names, axes(0, 2, 1, 3)
        counts = (network.heads, network.key_heads, network.key_heads)
        parts = self._split(weights.dense(hidden, *names.attention), [count * network.head_size for count in counts])
        query, key, value = (
            op.reshape(part, axes(0, 0, count, network.head_size), True)
            for part, count in zip(parts, counts, strict=True)
        )
        query, key = (
            self._maybe_normed(weights, norm, part) for norm, part in ((names.query_norm, query), (names.key_norm, key))
        )
        query, key, value = (op.transpose(part, swap) for part in (query, key, value))
        query, key = (self._turned(part, layer.turns) for part in (query, key))
        key, value = (self._repeated(part) for part in (key, value))
        seen = op.scaled_dot_product_attention(query, key, value, self._bias(layer.reach), number(network.scale))
        attended = op.reshape(op.transpose(seen, swap), axes(0, 0, network.heads * network.head_size), True)
        return weights.dense(attended, names.attended)

    def _gated(self, weights: Weights, hidden: Node) -> Node:
        # One matrix for both halves: the runtime's kernel for two dies of SIGFPE in bfloat16 on AMX with a GELU.
        wide = weights.dense(hidden, *self._names.gated)
        first, second = op.split(wide, axis(2), 2).outputs()
        gate, up = (second, first) if self._names.activated_last else (first, second)
        return weights.dense(op.multiply(activated(gate, self._network.activation), up), self._names.narrow)

    def _split(self, hidden: Node, sizes: list[int]) -> list[Node]:
        return list(op.variadic_split(hidden, axis(2), axes(*sizes)).outputs())

    def _repeated(self, part: Node) -> Node:
        """Keys or values for each head, where several heads share them: (texts, heads, length, size)."""
        network = self._network
        groups = network.heads // network.key_heads
        if groups == 1:
            return part
        tiled = op.tile(op.unsqueeze(part, axes(2)), axes(1, 1, groups, 1, 1))
        return op.reshape(tiled, axes(0, network.heads, -1, network.head_size), True)

    def _turned(self, part: Node, turns: Turns) -> Node:
        """Each pair of numbers, half a head apart, turned by an angle that grows with the position."""
        if turns not in self._tables:
            cosines, sines = _angles(turns, self._network.head_size, self._model.max_tokens)
            self._tables[turns] = (self._of_length(cosines), self._of_length(sines))
        cosines, sines = self._tables[turns]
        first, second = op.split(part, axis(3), 2).outputs()
        crossed = op.concat([op.multiply(second, number(-1)), first], -1)
        return op.add(op.multiply(part, cosines), op.multiply(crossed, sines))

    def _of_length(self, table: Array) -> Node:
        return op.slice(op.constant(table[None, None]), axes(0), self._length, axes(1), axes(2))

    def _bias(self, reach: int | None) -> Node:
        if reach not in self._biases:
            self._biases[reach] = self._new_bias(reach)
        return self._biases[reach]

    def _new_bias(self, reach: int | None) -> Node:
        """What makes the score of a key too low to weigh, (texts or 1, 1, length or 1, length)."""
        # After a text there is nothing that a causal network would look at.
        padding = op.multiply(op.subtract(op.unsqueeze(self._mask, axes(1, 2)), number(1)), number(FAR))
        if reach is None and not self._network.causal:
            return padding
        places = op.range(axis(0), op.squeeze(self._length, axes(0)), axis(1), "i64")
        ahead = op.subtract(op.unsqueeze(places, axes(0)), op.unsqueeze(places, axes(1)))
        hidden = op.greater(ahead, axis(0)) if self._network.causal else op.greater(op.abs(ahead), axis(reach or 0))
        if self._network.causal and reach is not None:
            hidden = op.logical_or(hidden, op.less(ahead, axis(-reach)))
        bias = op.unsqueeze(op.select(hidden, number(-FAR), number(0)), axes(0, 1))
        return bias if self._network.causal else op.add(padding, bias)

    def _maybe_normed(self, weights: Weights, name: str | None, hidden: Node) -> Node:
        return self._normed(weights, name, hidden) if name else hidden

    def _normed(self, weights: Weights, name: str, hidden: Node) -> Node:
        scale, epsilon = weights.array(f"{name}.weight"), self._network.epsilon
        if self._network.architecture in ("qwen3", "gemma3_text"):
            scale = scale + 1 if self._network.architecture == "gemma3_text" else scale
            squares = op.reduce_mean(op.power(hidden, number(2)), axes(-1), keep_dims=True)
            spread = op.sqrt(op.add(squares, number(epsilon)))
            return op.multiply(op.multiply(hidden, op.divide(number(1), spread)), op.constant(scale))
        scaled = op.multiply(centred(hidden, epsilon), op.constant(scale))
        return op.add(scaled, weights.constant(f"{name}.bias")) if weights.has(f"{name}.bias") else scaled


def _angles(turns: Turns, size: int, length: int) -> tuple[Array, Array]:
    """Cosines and sines, (length, size) each; in float32 throughout, as the networks were trained."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    theta = turns.theta * turns.factor if turns.scaling == "ntk" else turns.theta
    speeds = (1.0 / np.float32(theta) ** exponents).astype(np.float32)
    if turns.scaling == "linear":
        speeds /= np.float32(turns.factor)
    elif turns.scaling == "ntk":
        # https://kexue.fm/archives/9706, formula 6
        speeds /= np.float32(turns.factor ** (2 / size))
    angles = np.arange(length, dtype=np.float32)[:, None] * np.concatenate([speeds, speeds])
    return np.cos(angles), np.sin(angles)
