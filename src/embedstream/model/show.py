"""What a model is, and how it runs."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import WEIGHTS, Exported, Foreign, cannot_build
from embedstream.service.engine.model import find_model, is_installed, revision
from embedstream.service.engine.names import is_on_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.service.engine.hub import Snapshot
    from embedstream.service.engine.model import Model
    from embedstream.settings import Settings

Source = Literal["package", "directory", "hub"]


@dataclass(frozen=True)
class File:
    path: str
    bytes: int
    is_here: bool = True


@dataclass(frozen=True)
class Shown:
    """`revision` is None, and so not known, where weights are not here."""

    model: str
    source: Source
    directory: str
    hub_commit: str | None
    architecture: str | None
    runs: str
    dimension: int
    max_tokens: int
    pooling: str
    normalised: bool
    document_prompt: str
    query_prompt: str
    revision: str | None
    files: list[File]


def look(settings: Settings) -> Shown:
    """The model of the settings; of one on the Hub the configuration is fetched where it may be.

    Raises ConfigError where it is not there, or cannot be run.
    """
    wanted = settings.embedding_model
    if not is_on_hub(settings):
        model = _found(wanted)
        files = [_file(model.root, path) for path in (model.tokenizer, *model.network.files)]
        return _shown(model, "package" if is_installed(wanted) else "directory", files, revision(model))
    from embedstream.service.engine import hub  # noqa: PLC0415 - its library takes a third of a second

    snapshot = hub.look(settings)
    missing = set(snapshot.missing)
    files = [File(path, snapshot.listed[path].size, path not in missing) for path in snapshot.needed]
    if not missing:
        model = _found(str(snapshot.root))
        return _shown(model, "hub", files, revision(model))
    with tempfile.TemporaryDirectory() as directory:
        shown = _shown(_found(_as_if_here(snapshot, Path(directory))), "hub", files, None)
    return replace(shown, model=snapshot.name, directory=str(snapshot.root), hub_commit=snapshot.commit)


def _found(wanted: str) -> Model:
    try:
        return find_model(wanted)
    except ConfigError:
        return find_model(wanted, any_network=True)


def _as_if_here(snapshot: Snapshot, directory: Path) -> str:
    """The model with empty files in the place of weights that are missing."""
    for name in snapshot.needed:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if name in snapshot.missing else path.symlink_to((snapshot.root / name).resolve())
    return str(directory)


def _shown(model: Model, source: Source, files: list[File], revision: str | None) -> Shown:
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
        revision=revision,
        files=files,
    )


def _file(root: Path, path: Path) -> File:
    return File(path.relative_to(root).as_posix(), path.stat().st_size)


def _runs(model: Model, config: dict[str, Any]) -> str:
    reason = cannot_build("it", config) or _why_not_built(model)
    match model.network:
        case Foreign():
            return f"with EMBEDDING_ENGINE=sentence-transformers alone: {reason}"
        case Exported(graph):
            return f"as it was exported ({graph.relative_to(model.directory)}): {reason}"
        case _:
            return "natively, built from its weights"


def _why_not_built(model: Model) -> str:
    if any((model.directory / name).is_file() for name in WEIGHTS):
        return "tables are pinned to an export where there is one"
    return f"it has no {WEIGHTS[0]}"


def _config(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def as_text(shown: Shown) -> str:
    return "\n".join(f"{name:<16}{value}" for name, value in _lines(shown))


def _lines(shown: Shown) -> Iterator[tuple[str, object]]:
    yield "model", shown.model
    yield "from", f"{shown.source}: {shown.directory}"
    if shown.hub_commit:
        yield "commit", shown.hub_commit
    yield "architecture", shown.architecture or "not said"
    yield "runs", shown.runs
    yield "dimension", shown.dimension
    yield "longest text", f"{shown.max_tokens} tokens"
    yield "pooling", f"{shown.pooling}{', normalised' if shown.normalised else ''}"
    yield "prompt, texts", repr(shown.document_prompt) if shown.document_prompt else "none"
    yield "prompt, queries", repr(shown.query_prompt) if shown.query_prompt else "none"
    yield "revision", shown.revision or "not known before the model is downloaded"
    for number, file in enumerate(shown.files):
        lacking = "" if file.is_here else ", not downloaded: embedstream model pull"
        yield ("" if number else "files"), f"{file.path} ({file.bytes:,} bytes{lacking})"
