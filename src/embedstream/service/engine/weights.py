"""A model's tensors as the constants of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstream.service.engine.runtime import op, openvino

if TYPE_CHECKING:
    from openvino import Node

    from embedstream.service.engine.tensors import Array, Tensors

_LARGEST_INT8 = 127


class Weights:
    """The tensors under one prefix, as constants of a graph; with `int8`, matrices are held in 8 bits."""

    def __init__(self, tensors: Tensors, prefix: str = "", *, int8: bool = False) -> None:
        self._tensors = tensors
        self._prefix = prefix
        self._int8 = int8

    def under(self, prefix: str) -> Weights:
        return Weights(self._tensors, self._prefix + prefix, int8=self._int8)

    def has(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def array(self, name: str) -> Array:
        return self._tensors.get(self._prefix + name)

    def constant(self, name: str) -> Node:
        return op.constant(self.array(name))

    def rows(self, name: str, places: Node) -> Node:
        """The rows of a table at those places; one in bfloat16 stays that."""
        halves = self._tensors.held_halves(self._prefix + name)
        first = op.constant(np.int64(0))
        if halves is None:
            return op.gather(self.constant(name), places, first)
        # With memory of its own: a constant that shares numpy's does not keep it.
        table = openvino.Tensor(openvino.Type.bf16, openvino.Shape(halves.shape))
        table.data[...] = halves.view(table.data.dtype)
        return op.convert(op.gather(op.constant(table), places, first), np.float32)

    def matrix(self, *names: str) -> Node:
        """The rows of those matrices one after the other; in 8 bits as whole numbers from -127 to 127, and a scale for
        each row.
        """
        rows = self.array(names[0]) if len(names) == 1 else np.concatenate([self.array(name) for name in names])
        if not self._int8:
            return op.constant(rows)
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / _LARGEST_INT8, np.finfo(np.float32).tiny)
        whole = np.rint(rows / scales).astype(np.int8)
        return op.multiply(op.convert(op.constant(whole), np.float32), op.constant(scales))

    def dense(self, hidden: Node, *names: str) -> Node:
        """The products with those matrices, side by side, and their biases where there are any."""
        product = op.matmul(hidden, self.matrix(*(f"{name}.weight" for name in names)), False, True)
        biases = [f"{name}.bias" for name in names if self.has(f"{name}.bias")]
        if not biases:
            return product
        if len(biases) < len(names):
            raise KeyError(f"{', '.join(names)} have not each a bias")
        return op.add(product, op.constant(np.concatenate([self.array(name) for name in biases])))
