"""Which files of a model on the Hub are fetched: by exact names, no code, and no weights that are a pickle."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import cannot_build

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MODULES = "modules.json"

_CONFIGURATION = (
    "config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors.index.json",
)
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Each export with what may lie beside it.
_EXPORTS = (
    ("openvino/openvino_model.xml", "openvino/openvino_model.bin"),
    ("onnx/model.onnx", "onnx/model.onnx_data"),
)
_STATIC = "StaticEmbedding"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def configuration(root: Path) -> list[str]:
    """The small files, at the top and in the folder of every module, that there may be; `root` has `modules.json`."""
    return [path for folder in dict.fromkeys(("", *_folders(root))) for path in _within(folder, _CONFIGURATION)]


def weights(name: str, root: Path, listed: Collection[str], *, any_network: bool) -> list[str]:
    """The files of weights; `root` has the configuration. With `any_network` the architecture may be any.

    Raises ConfigError where nothing is there that can be run.
    """
    if MODULES not in listed:
        raise ConfigError(f"{name} has no {MODULES}: use a model that sentence-transformers saved")
    first, *others = _folders(root)
    return [*_network(name, root, first, listed, any_network=any_network), *_others(root, others, listed)]


def _network(name: str, root: Path, folder: str, listed: Collection[str], *, any_network: bool) -> list[str]:
    if (path := posixpath.join(folder, "tokenizer.json")) not in listed:
        raise ConfigError(f"{name} has no {path}: use a model with a fast tokenizer")
    is_any = any_network or _kind(root).endswith(_STATIC)
    refusal = None if is_any else cannot_build(name, _object(root / folder / "config.json"))
    if not refusal and (found := _safetensors(root, folder, listed)):
        return found
    for export in () if is_any else _EXPORTS:
        if (paths := _within(folder, export))[0] in listed:
            return [path for path in paths if path in listed]
    raise ConfigError(refusal or _without_weights(name, folder, listed))


def _without_weights(name: str, folder: str, listed: Collection[str]) -> str:
    pickle = next((path for path in _within(folder, _PICKLES) if path in listed), None)
    aside = f" ({pickle} is a pickle, which may run code, and is never loaded)" if pickle else ""
    return f"{name} has no weights that can be run{aside}: use a model with {_WEIGHTS}, or with {_EXPORTS[1][0]}"


def _others(root: Path, folders: list[str], listed: Collection[str]) -> Iterator[str]:
    for folder in folders:
        yield from _safetensors(root, folder, listed)


def _safetensors(root: Path, folder: str, listed: Collection[str]) -> list[str]:
    if (whole := posixpath.join(folder, _WEIGHTS)) in listed:
        return [whole]
    index = root / folder / _INDEX
    parts = set(map(str, (_object(index).get("weight_map") or {}).values())) if index.is_file() else set()
    shards = _within(folder, sorted(parts))
    return shards if all(path in listed and path.endswith(".safetensors") for path in shards) else []


def _folders(root: Path) -> list[str]:
    """Those of the modules, the network's first."""
    return list(dict.fromkeys(str(module.get("path", "")) for module in _modules(root))) or [""]


def _kind(root: Path) -> str:
    """Of the module that reads the text."""
    return next((str(module.get("type")) for module in _modules(root)), "")


def _modules(root: Path) -> list[dict[str, Any]]:
    """What is garbled is refused where the model is read."""
    content = _content(root / MODULES)
    return [module for module in content if isinstance(module, dict)] if isinstance(content, list) else []


def _object(path: Path) -> dict[str, Any]:
    content = _content(path)
    return content if isinstance(content, dict) else {}


def _content(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _within(folder: str, names: Collection[str]) -> list[str]:
    return [posixpath.join(folder, name) for name in names]
