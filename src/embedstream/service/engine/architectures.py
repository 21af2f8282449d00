"""What a model's config.json says about the network, in one vocabulary for all architectures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from safetensors import SafetensorError

from embedstream.errors import ConfigError
from embedstream.service.engine.rotary import ROTARY, Activation, Rotary, read_rotary
from embedstream.service.engine.tensors import INDEX, Tensors, files_of

if TYPE_CHECKING:
    from pathlib import Path

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
WEIGHTS = ("model.safetensors", f"model.safetensors{INDEX}")
_EXPORTS = ("openvino/openvino_model.xml", "onnx/model.onnx")
STATIC_TABLES = ("embedding.weight", "embeddings")
"""What sentence-transformers and model2vec call a static model's table."""

_MPNET_PADDING = 1
_DISTILBERT_EPSILON = 1e-12


@dataclass(frozen=True)
class Encoder:
    """A network of a known architecture with absolute positions; `weights` are a safetensors file, or an index of
    several.
    """

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
        return files_of(self.weights)

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
        return (self.config, *files_of(self.weights))

    def configuration(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Static:
    """A vector for each token, whatever stands beside it."""

    weights: Path
    dimension: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.weights,)

    def configuration(self) -> dict[str, Any]:
        return {}


Network = Encoder | Rotary | Exported | Foreign | Static


def read_network(directory: Path, config: dict[str, Any], *, any_network: bool = False) -> Network:
    """The network in a Transformer's directory: built from its weights where that can be done, else as exported, or,
    with `any_network`, as one that is foreign.

    Raises ConfigError, or what a config without its fields raises.
    """
    weights = next((directory / name for name in WEIGHTS if (directory / name).is_file()), None)
    refusal = _refusal(directory, config, weights)
    if weights and not refusal:
        return _encoder(weights, config)
    if weights and any_network:
        return Foreign(weights, directory / "config.json")
    # Where both would do: tables are pinned to the export, which was used before its network could be built.
    for path in _EXPORTS:
        if (directory / path).is_file():
            return Exported(directory / path)
    if weights and config.get("model_type") in ROTARY:
        return read_rotary(weights, config)
    raise ConfigError(f"{refusal}, or export it to {' or '.join(_EXPORTS)} there")


def cannot_build(model: object, config: dict[str, Any]) -> str | None:
    """Why no network can be built from the weights of a model with such a config.json; None where one can."""
    return None if config.get("model_type") in ROTARY else _no_encoder(model, config)


def read_static(directory: Path) -> Static:
    """Raises ConfigError."""
    weights = directory / WEIGHTS[0]
    try:
        tensors = Tensors(weights)
        name = next(name for name in STATIC_TABLES if name in tensors)
        _, dimension = tensors.shape(name)
    except (OSError, SafetensorError, StopIteration, ValueError) as exc:
        raise ConfigError(f"{weights} holds no table of vectors: use a complete model directory") from exc
    return Static(weights, dimension)


def _refusal(directory: Path, config: dict[str, Any], weights: Path | None) -> str | None:
    """Why the network is no Encoder."""
    if refusal := _no_encoder(f"the model in {directory}", config):
        return refusal
    if weights is None:
        return f"{directory} has no {WEIGHTS[0]}: save the model again with safe_serialization=True"
    return None


def _no_encoder(model: object, config: dict[str, Any]) -> str | None:
    kind, position = config.get("model_type"), config.get("position_embedding_type", "absolute")
    activation = config.get("activation" if kind == "distilbert" else "hidden_act")
    if kind not in _ARCHITECTURES or position != "absolute" or activation not in _ACTIVATIONS:
        own_code = " and brings code of its own, which is not run" if "auto_map" in config else ""
        return (
            f"{model} is a {kind} with {position} positions and {activation}{own_code}: "
            f"use one of {', '.join(_ARCHITECTURES)} with absolute positions and gelu or relu, "
            f"or of {', '.join(ROTARY)}"
        )
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
    name = next((name for name in ("hidden_size", "dim", "d_model", "n_embd") if name in config), "hidden_size")
    return int(config[name])


def read_positions(network: Network, config: dict[str, Any]) -> int | None:
    """How many tokens the network has positions for, None where that is not said."""
    if isinstance(network, Rotary):
        return network.positions
    if not isinstance(network, Encoder):
        return cast("int | None", config.get("max_position_embeddings"))
    taken = 0 if network.padding is None else network.padding + 1
    return int(config["max_position_embeddings"]) - taken
