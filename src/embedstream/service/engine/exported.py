"""A model whose network was exported as a graph, completed with pooling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from embedstream.errors import ConfigError
from embedstream.service.engine.nodes import parameters, pooled
from embedstream.service.engine.runtime import core, op, openvino

if TYPE_CHECKING:
    from pathlib import Path

    from openvino import Node, Output

    from embedstream.service.engine.architectures import Exported
    from embedstream.service.engine.model import Model

_OUTPUTS = frozenset({"last_hidden_state", "token_embeddings"})
_RANK = 3


def build_exported(model: Model, exported: Exported) -> openvino.Model:
    """A graph from `parameters()` to float32 (texts, dimension).

    Raises ConfigError if the file is no graph from tokens to a vector for each token.
    """
    try:
        graph = core().read_model(exported.graph)
        graph.reshape({given: [-1, -1] for given in graph.inputs})
        ids, mask = parameters()
        for given in graph.inputs:
            given.get_node().output(0).replace(_input(given, ids, mask, exported.graph).output(0))
        hidden = _hidden(graph, model, exported.graph)
        return openvino.Model([pooled(op.convert(hidden, np.float32), mask, model)], [ids, mask], "exported")
    except RuntimeError as exc:
        raise ConfigError(f"{exported.graph} cannot be used as a graph: {str(exc).splitlines()[0]}") from exc


def check_vocabulary(model: Model, exported: Exported, vocabulary: int) -> None:
    """Raises ConfigError where a tokenizer with so many ids has some that the network has no vector for."""
    rows = json.loads((model.directory / "config.json").read_bytes()).get("vocab_size")
    if isinstance(rows, int) and vocabulary > rows:
        raise ConfigError(
            f"the tokenizer beside {exported.graph} has {vocabulary} tokens, but the model only {rows}: "
            "use a directory in which both are the same model's"
        )


def _input(given: Output, ids: Node, mask: Node, path: Path) -> Node:
    names = given.get_names()
    if "input_ids" in names:
        tokens = ids
    elif "attention_mask" in names:
        tokens = mask
    elif "token_type_ids" in names:
        tokens = op.multiply(ids, op.constant(np.int32(0)))
    else:
        raise ConfigError(f"{path} asks for {', '.join(names)}: export it with input_ids and attention_mask")
    return op.convert(tokens, given.get_element_type())


def _hidden(graph: openvino.Model, model: Model, path: Path) -> Output:
    found = [output for output in graph.outputs if _OUTPUTS & output.get_names()] or graph.outputs
    shape = found[0].get_partial_shape()
    dimension = shape[-1] if shape.rank.is_static and shape.rank.get_length() == _RANK else None
    if dimension is None or (dimension.is_static and dimension.get_length() != model.width):
        raise ConfigError(
            f"{path} gives {shape}, and not (texts, tokens, {model.width}): export the model without a head"
        )
    return found[0].get_node().input_value(0)
