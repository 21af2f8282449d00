"""What modules.json says that a model is made of, in the layout of sentence-transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Pooling = Literal["mean", "cls", "max", "last"]
DenseActivation = Literal["identity", "tanh", "relu", "gelu"]

_POOLING: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "last",
}
_DENSE_ACTIVATIONS: dict[str, DenseActivation] = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
}
_OWN_CODE = "sentence_transformers."
_VECTOR = "sentence_embedding"
_ALTERNATIVE = "use one of Transformer, Pooling, perhaps Denses and perhaps a Normalize, or of StaticEmbedding"


@dataclass(frozen=True)
class Dense:
    """A matrix, and perhaps a bias, that a text's vector goes through after the pooling."""

    weights: Path
    width: int
    dimension: int
    bias: bool
    activation: DenseActivation

    def configuration(self) -> dict[str, Any]:
        return {"activation": self.activation, "bias": self.bias, "width": self.width, "dimension": self.dimension}


class Modules(NamedTuple):
    """`directory` is where the network and the tokenizer are; a static model has no `pooling`."""

    directory: Path
    pooling: dict[str, Any] | None
    denses: tuple[Dense, ...]
    normalised: bool


def read_modules(root: Path) -> Modules:
    """Raises ConfigError, or what a Dense's configuration without its fields raises."""
    if _is_model2vec(root):
        return Modules(root, None, (), bool(read_object(root / "config.json").get("normalize")))
    listed = cast("list[dict[str, Any]]", read(root / "modules.json"))
    try:
        types = [str(module["type"]) for module in listed]
        paths = [root / module["path"] for module in listed]
    except (TypeError, KeyError, AttributeError) as exc:
        raise ConfigError(f"{root / 'modules.json'} is not sentence-transformers' list of modules") from exc
    kinds = [kind.rpartition(".")[2] for kind in types]
    foreign = [kind for kind in types if not kind.startswith(_OWN_CODE)]
    if foreign:
        raise ConfigError(
            f"the model in {root} brings code of its own, {', '.join(foreign)}, that is not run: {_ALTERNATIVE}"
        )
    normalised = kinds[-1:] == ["Normalize"]
    before = kinds[:-1] if normalised else kinds
    if before == ["StaticEmbedding"]:
        return Modules(paths[0], None, (), normalised)
    if before[:2] != ["Transformer", "Pooling"] or set(before[2:]) - {"Dense"}:
        raise ConfigError(f"the model in {root} is made of {', '.join(kinds)}: {_ALTERNATIVE}")
    denses = tuple(_dense(path) for path in paths[2 : len(before)])
    return Modules(paths[0], read_object(paths[1] / "config.json"), denses, normalised)


def _is_model2vec(root: Path) -> bool:
    """Whether it is a directory as model2vec itself once saved them, without modules."""
    if (root / "modules.json").exists():
        return False
    return read_optional(root / "config.json").get("model_type") == "model2vec"


def _dense(directory: Path) -> Dense:
    config = read_object(directory / "config.json")
    function = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if function not in _DENSE_ACTIVATIONS:
        raise ConfigError(f"the Dense in {directory} ends in {function}: use one of {', '.join(_DENSE_ACTIVATIONS)}")
    ends = [config.get(name) or _VECTOR for name in ("module_input_name", "module_output_name")]
    if ends != [_VECTOR, _VECTOR] or config.get("use_residual"):
        raise ConfigError(f"the Dense in {directory} is not one from a text's vector to another: {_ALTERNATIVE}")
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise ConfigError(f"{weights} is missing: save the model again with safe_serialization=True")
    width, dimension = int(config["in_features"]), int(config["out_features"])
    return Dense(weights, width, dimension, bool(config.get("bias", True)), _DENSE_ACTIVATIONS[function])


def check_widths(denses: tuple[Dense, ...], width: int) -> int:
    """The dimension of the last; raises ConfigError where one does not take what the one before gives."""
    for dense in denses:
        if dense.width != width:
            raise ConfigError(
                f"{dense.weights.parent} takes vectors of {dense.width} dimensions, but is given {width}: "
                "use a complete model directory"
            )
        width = dense.dimension
    return width


def pooling_mode(config: dict[str, Any]) -> Pooling:
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    chosen = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else chosen
    if len(chosen) != 1 or chosen[0] not in _POOLING:
        raise ConfigError(
            f"the model pools by {', '.join(chosen) or 'nothing'}: use one that pools by mean, cls, max or last token"
        )
    return _POOLING[chosen[0]]


def read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise ConfigError(f"{path} is missing: use a directory that sentence-transformers saved a model to") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path} cannot be read as JSON: {exc}") from exc


def read_object(path: Path) -> dict[str, Any]:
    content = read(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no JSON object: use a directory that sentence-transformers saved a model to")
    return content


def read_optional(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}
