"""What a model's config.json says about the network, in one vocabulary for all architectures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"]
Architecture = Literal["bert", "roberta", "mpnet", "distilbert"]

_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
_ARCHITECTURES: dict[str, Architecture] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "mpnet": "mpnet",
    "distilbert": "distilbert",
}
_WEIGHTS = "model.safetensors"
_EXPORTS = ("openvino/openvino_model.xml", "onnx/model.onnx")
_MPNET_PADDING = 1
_DISTILBERT_EPSILON = 1e-12


@dataclass(frozen=True)
class Encoder:
    """A network of a known architecture, whose weights are a safetensors file."""

    weights: Path
    architecture: Architecture
    layers: int
    heads: int
    epsilon: float
    activation: Activation
    padding: int | None
    """The id whose successor is the position of a text's first token; None where that is position 0."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.weights,)

    def configuration(self) -> dict[str, Any]:
        """What changes the vectors, beside the weights; BERT's must stay as it is, as tables are pinned to it."""
        own: dict[str, Any] = {"activation": self.activation, "epsilon": self.epsilon, "heads": self.heads}
        return (
            own if self.architecture == "bert" else {**own, "architecture": self.architecture, "padding": self.padding}
        )


@dataclass(frozen=True)
class Exported:
    """A network of any architecture as a graph: OpenVINO's IR, or ONNX."""

    graph: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The graph and the files of weights beside it."""
        return tuple(sorted(self.graph.parent.glob(f"{self.graph.stem}.*")))

    def configuration(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Foreign:
    """A network that only another library can build from its weights."""

    weights: Path
    config: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.config, self.weights)

    def configuration(self) -> dict[str, Any]:
        return {}


Network = Encoder | Exported | Foreign


def read_network(directory: Path, config: dict[str, Any], *, any_network: bool = False) -> Network:
    """The network in a Transformer's directory: built from its weights where that can be done, else as exported, or,
    with `any_network`, as one that is foreign.

    Raises ConfigError, or what a config without its fields raises.
    """
    refusal = _refusal(directory, config)
    if not refusal:
        return _encoder(directory / _WEIGHTS, config)
    if any_network and (directory / _WEIGHTS).is_file():
        return Foreign(directory / _WEIGHTS, directory / "config.json")
    for path in _EXPORTS:
        if (directory / path).is_file():
            return Exported(directory / path)
    raise ConfigError(f"{refusal}, or export it to {' or '.join(_EXPORTS)} there")


def cannot_build(model: object, config: dict[str, Any]) -> str | None:
    """Why no network can be built from the weights of a model with such a config.json; None where one can."""
    kind, position = config.get("model_type"), config.get("position_embedding_type", "absolute")
    activation = config.get("activation" if kind == "distilbert" else "hidden_act")
    if kind not in _ARCHITECTURES or position != "absolute" or activation not in _ACTIVATIONS:
        return (
            f"{model} is a {kind} with {position} positions and {activation}: "
            f"use one of {', '.join(_ARCHITECTURES)} with absolute positions and gelu or relu"
        )
    return None


def _refusal(directory: Path, config: dict[str, Any]) -> str | None:
    if refusal := cannot_build(f"the model in {directory}", config):
        return refusal
    if not (directory / _WEIGHTS).is_file():
        return f"{directory} has no {_WEIGHTS}: save the model again with safe_serialization=True, in one file"
    return None


def _encoder(weights: Path, config: dict[str, Any]) -> Encoder:
    architecture = _ARCHITECTURES[config["model_type"]]
    if architecture == "distilbert":
        layers, heads, activation = (config[name] for name in ("n_layers", "n_heads", "activation"))
        return Encoder(weights, architecture, layers, heads, _DISTILBERT_EPSILON, cast("Activation", activation), None)
    padding = {"bert": None, "mpnet": _MPNET_PADDING}.get(architecture, config.get("pad_token_id", 1))
    return Encoder(
        weights,
        architecture,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        activation=cast("Activation", config["hidden_act"]),
        padding=padding,
    )


def read_dimension(config: dict[str, Any]) -> int:
    """Raises KeyError."""
    name = next((name for name in ("hidden_size", "dim", "d_model") if name in config), "hidden_size")
    return int(config[name])


def read_positions(network: Network, config: dict[str, Any]) -> int | None:
    """How many tokens the network has positions for, None where that is not said."""
    if not isinstance(network, Encoder):
        return cast("int | None", config.get("max_position_embeddings"))
    taken = 0 if network.padding is None else network.padding + 1
    return int(config["max_position_embeddings"]) - taken
