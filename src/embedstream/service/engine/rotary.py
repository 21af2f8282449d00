"""What a config.json says about a network whose positions are turned into its queries and keys (RoPE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from embedstream.errors import ConfigError
from embedstream.service.engine.tensors import files_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]
Scaling = Literal["default", "linear", "ntk"]
RotaryKind = Literal["modernbert", "qwen3", "gemma3_text", "nomic_bert", "gte"]

_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")
_FULL, _SLIDING = "full_attention", "sliding_attention"
_Config = dict[str, Any]


class Turns(NamedTuple):
    """How fast the positions turn: `scaling` and `factor` stretch them to longer texts than `theta` was made for."""

    theta: float
    scaling: Scaling = "default"
    factor: float = 1.0


class Layer(NamedTuple):
    """`reach` is how far a token sees to either side; None is as far as the text goes."""

    turns: Turns
    reach: int | None = None


@dataclass(frozen=True)
class Rotary:
    """A network that is built from its weights: one safetensors file, or an index of several."""

    weights: Path
    config: Path
    architecture: RotaryKind
    layers: tuple[Layer, ...]
    heads: int
    key_heads: int
    head_size: int
    scale: float
    """What the products of queries and keys are multiplied with."""
    epsilon: float
    activation: Activation
    causal: bool
    positions: int | None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of the configuration is part of the revision, as where another library builds such a network."""
        return (self.config, *files_of(self.weights))

    def configuration(self) -> dict[str, Any]:
        return {}


def read_rotary(weights: Path, config: _Config) -> Rotary:
    """Raises ConfigError where the config asks for what is not built here, or what one without its fields raises."""
    kind = ROTARY[config["model_type"]]
    network = _READERS[kind](weights, config)
    if network.activation not in _ACTIVATIONS:
        raise _unknown(weights, f"the activation {network.activation}", f"one of {', '.join(_ACTIVATIONS)}")
    if network.heads % network.key_heads or network.head_size % 2:
        raise _unknown(
            weights, f"{network.heads} heads over {network.key_heads} of {network.head_size} numbers", "others"
        )
    return network


def _unknown(weights: Path, asked: str, instead: str) -> ConfigError:
    return ConfigError(
        f"the config.json beside {weights} asks for {asked}, which is not built here: use a model with {instead}, "
        "or export it to onnx/model.onnx there"
    )


def _modernbert(weights: Path, config: _Config) -> Rotary:
    every = config.get("global_attn_every_n_layers", 3)
    kinds = _kinds(config, lambda layer: layer % every != 0)
    turns = {
        _FULL: _turns(weights, config, _FULL, config.get("global_rope_theta", 160_000.0)),
        _SLIDING: _turns(weights, config, _SLIDING, config.get("local_rope_theta", 10_000.0)),
    }
    heads = config["num_attention_heads"]
    return _network(
        weights, config, "modernbert", kinds, turns,
        reach=config.get("local_attention", 128) // 2,
        head_size=config["hidden_size"] // heads,
        epsilon=config.get("norm_eps", 1e-5),
        activation=config.get("hidden_activation", "gelu"),
    )  # fmt: skip


def _qwen3(weights: Path, config: _Config) -> Rotary:
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    first = config.get("max_window_layers", 28)
    kinds = _kinds(config, lambda layer: window is not None and layer >= first)
    causal = config.get("is_causal", True) and not config.get("use_bidirectional_attention")
    if not causal and _SLIDING in kinds:
        raise _unknown(weights, "windows in both directions", "use_sliding_window false")
    turns = _turns(weights, config, _FULL, config.get("rope_theta", 10_000.0))
    return _network(
        weights, config, "qwen3", kinds, {_FULL: turns, _SLIDING: turns},
        reach=window - 1 if window else None,
        head_size=config.get("head_dim") or 128,
        epsilon=config.get("rms_norm_eps", 1e-6),
        activation=config.get("hidden_act", "silu"),
        causal=causal,
    )  # fmt: skip


def _gemma3(weights: Path, config: _Config) -> Rotary:
    every, window = (
        config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6,
        config.get("sliding_window") or 4096,
    )
    if config.get("attn_logit_softcapping"):
        raise _unknown(weights, "attn_logit_softcapping", "none")
    kinds = _kinds(config, lambda layer: (layer + 1) % every != 0)
    causal = not config.get("use_bidirectional_attention")
    turns = {
        _FULL: _turns(weights, config, _FULL, config.get("rope_theta", 1_000_000.0)),
        _SLIDING: _turns(weights, config, _SLIDING, config.get("rope_local_base_freq", 10_000.0), scaled=False),
    }
    return _network(
        weights, config, "gemma3_text", kinds, turns,
        reach=window - 1 if causal else window // 2,
        head_size=config.get("head_dim") or 256,
        epsilon=config.get("rms_norm_eps", 1e-6),
        activation=config.get("hidden_activation", "gelu_pytorch_tanh"),
        causal=causal,
        scale=(config.get("query_pre_attn_scalar") or 256) ** -0.5,
    )  # fmt: skip


def _nomic(weights: Path, config: _Config) -> Rotary:
    """Its makers' own names for the fields are GPT-2's."""
    for name, plain in _NOMIC_PLAIN.items():
        if config.get(name, plain) not in (plain, None):
            raise _unknown(weights, f"{name} {config[name]}", f"{name} {plain}")
    config = {
        **config,
        **{name: config[old] for old, name in _NOMIC_NAMES.items() if name not in config and old in config},
    }
    activation = config.get("hidden_act", "silu")
    turns = _turns(weights, config, _FULL, config.get("rotary_emb_base") or 1000.0)
    return _network(
        weights, config, "nomic_bert", _kinds(config, lambda _: False), {_FULL: turns},
        head_size=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        epsilon=config.get("layer_norm_eps", 1e-12),
        activation="silu" if activation == "swiglu" else activation,
    )  # fmt: skip


_NOMIC_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "activation_function": "hidden_act",
}
_NOMIC_PLAIN = {
    "prenorm": False,
    "use_rms_norm": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "num_experts": 0,
}


def _gte(weights: Path, config: _Config) -> Rotary:
    for name, plain in (
        ("position_embedding_type", "rope"),
        ("layer_norm_type", "layer_norm"),
        ("logn_attention_scale", False),
    ):
        if config.get(name, plain) != plain:
            raise _unknown(weights, f"{name} {config[name]}", f"{name} {plain}")
    turns = _turns(weights, config, _FULL, config.get("rope_theta", 160_000.0), also=("ntk",))
    return _network(
        weights, config, "gte", _kinds(config, lambda _: False), {_FULL: turns},
        head_size=config["hidden_size"] // config["num_attention_heads"],
        epsilon=config.get("layer_norm_eps", 1e-12),
        activation=config.get("hidden_act", "gelu"),
    )  # fmt: skip


def _network(
    weights: Path, config: _Config, kind: RotaryKind, kinds: list[str], turns: dict[str, Turns], *, head_size: int,
    epsilon: float, activation: str, reach: int | None = None, causal: bool = False, scale: float | None = None,
) -> Rotary:  # fmt: skip
    heads = int(config["num_attention_heads"])
    return Rotary(
        weights=weights,
        config=weights.parent / "config.json",
        architecture=kind,
        layers=tuple(Layer(turns[each], reach if each == _SLIDING else None) for each in kinds),
        heads=heads,
        key_heads=int(config.get("num_key_value_heads") or heads),
        head_size=head_size,
        scale=scale or head_size**-0.5,
        epsilon=epsilon,
        activation=cast("Activation", activation),
        causal=causal,
        positions=config.get("max_position_embeddings"),
    )


def _kinds(config: _Config, slides: Callable[[int], bool]) -> list[str]:
    """Of each layer, whether it sees the whole text; raises ValueError where that is another thing."""
    count = config["num_hidden_layers"]
    kinds = config.get("layer_types") or [_SLIDING if slides(layer) else _FULL for layer in range(count)]
    if len(kinds) != count or set(kinds) - {_FULL, _SLIDING}:
        raise ValueError(f"layer_types {kinds}")
    return list(kinds)


def _turns(
    weights: Path, config: _Config, kind: str, theta: float, *, scaled: bool = True, also: tuple[str, ...] = ()
) -> Turns:
    """From rope_parameters, of all layers or of each kind, or from what transformers wrote before its version 5."""
    given = config.get("rope_parameters") or {}
    given = given.get(kind) or {} if {_FULL, _SLIDING} & given.keys() else given
    rope = {**((config.get("rope_scaling") or {}) if scaled else {}), **given}
    scaling = rope.get("rope_type") or rope.get("type") or "default"
    if scaling not in ("default", "linear", *also):
        raise _unknown(weights, f"the rope scaling {scaling}", "default or linear")
    if rope.get("mixed_b") or rope.get("partial_rotary_factor", 1) != 1 or config.get("partial_rotary_factor", 1) != 1:
        raise _unknown(weights, "positions that turn a part of each head", "all of it turned")
    return Turns(float(rope.get("rope_theta", theta)), cast("Scaling", scaling), float(rope.get("factor", 1.0)))


_READERS: dict[RotaryKind, Callable[[Path, _Config], Rotary]] = {
    "modernbert": _modernbert,
    "qwen3": _qwen3,
    "gemma3_text": _gemma3,
    "nomic_bert": _nomic,
    "gte": _gte,
}
ROTARY: dict[str, RotaryKind] = {
    "modernbert": "modernbert",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3_text",
    "nomic_bert": "nomic_bert",
    "gte": "gte",
    "new": "gte",
}
