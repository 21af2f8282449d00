"""What a model is, and how it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import Exported, Foreign, cannot_build, read_dimension
from embedstream.service.engine.model import find_model, is_installed, revision
from embedstream.service.engine.names import is_on_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedstream.service.engine.model import Model
    from embedstream.settings import Settings

_UNKNOWN = "not known before it is downloaded"


@dataclass(frozen=True)
class File:
    path: str
    bytes: int
    is_here: bool = True


@dataclass(frozen=True)
class Shown:
    """None is not known."""

    model: str
    source: Literal["package", "directory", "hub"]
    directory: str
    hub_commit: str | None
    architecture: str | None
    runs: str
    dimension: int | None
    max_tokens: int | None
    pooling: str | None
    normalised: bool | None
    document_prompt: str | None
    query_prompt: str | None
    revision: str | None
    files: list[File]


def look(settings: Settings) -> Shown:
    """The model of the settings; of one on the Hub the configuration is fetched where it may be.

    Raises ConfigError where it is not there, or cannot be run.
    """
    wanted = settings.embedding_model
    if not is_on_hub(settings):
        return _of(wanted, "package" if is_installed(wanted) else "directory")
    from embedstream.service.engine import hub  # noqa: PLC0415 - its library takes a third of a second

    snapshot = hub.look(settings)
    if not snapshot.missing:
        return _of(str(snapshot.root), "hub")
    here = set(snapshot.needed) - set(snapshot.missing)
    files = [File(path, snapshot.listed[path].size, path in here) for path in snapshot.needed]
    config = _config(snapshot.root)
    return Shown(
        model=snapshot.name, source="hub", directory=str(snapshot.root), hub_commit=snapshot.commit,
        architecture=config.get("model_type"), runs=_UNKNOWN, dimension=_dimension(config), max_tokens=None,
        pooling=None, normalised=None, document_prompt=None, query_prompt=None, revision=None, files=files,
    )  # fmt: skip


def _of(wanted: str, source: Literal["package", "directory", "hub"]) -> Shown:
    try:
        model = find_model(wanted)
    except ConfigError:
        model = find_model(wanted, any_network=True)
    config = _config(model.directory)
    return Shown(
        model=model.name,
        source=source,
        directory=str(model.root),
        hub_commit=model.hub_commit,
        architecture=config.get("model_type"),
        runs=_runs(model, config),
        dimension=model.dimension,
        max_tokens=model.max_tokens,
        pooling=model.pooling,
        normalised=model.normalised,
        document_prompt=model.prefix,
        query_prompt=model.query_prefix,
        revision=revision(model),
        files=[_file(model.root, path) for path in (model.tokenizer, *model.network.files)],
    )


def _file(root: Path, path: Path) -> File:
    return File(path.relative_to(root).as_posix(), path.stat().st_size)


def _runs(model: Model, config: dict[str, Any]) -> str:
    reason = cannot_build("it", config) or "it has no model.safetensors"
    match model.network:
        case Foreign():
            return f"with EMBEDDING_ENGINE=sentence-transformers alone: {reason}"
        case Exported(graph):
            return f"as it was exported ({graph.relative_to(model.directory)}): {reason}"
        case _:
            return "natively, built from its weights"


def _config(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _dimension(config: dict[str, Any]) -> int | None:
    try:
        return read_dimension(config)
    except (KeyError, TypeError, ValueError):
        return None


def as_text(shown: Shown) -> str:
    return "\n".join(f"{name:<16}{value}" for name, value in _lines(shown))


def _lines(shown: Shown) -> Iterator[tuple[str, object]]:
    known = _UNKNOWN if shown.revision is None else "none"
    yield "model", shown.model
    yield "from", f"{shown.source}: {shown.directory}"
    if shown.hub_commit:
        yield "commit", shown.hub_commit
    yield "architecture", shown.architecture or "not said"
    yield "runs", shown.runs
    yield "dimension", shown.dimension or known
    yield "longest text", f"{shown.max_tokens} tokens" if shown.max_tokens else known
    yield "pooling", f"{shown.pooling}{', normalised' if shown.normalised else ''}" if shown.pooling else known
    yield "prompt, texts", repr(shown.document_prompt) if shown.document_prompt else known
    yield "prompt, queries", repr(shown.query_prompt) if shown.query_prompt else known
    yield "revision", shown.revision or known
    for number, file in enumerate(shown.files):
        lacking = "" if file.is_here else ", not downloaded: embedstream model pull"
        yield ("" if number else "files"), f"{file.path} ({file.bytes:,} bytes{lacking})"
