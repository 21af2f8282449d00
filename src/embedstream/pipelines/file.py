"""Reads a pipeline file, or says all that is wrong with it at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from embedstream.errors import ConfigError
from embedstream.pipelines import sentences, together
from embedstream.pipelines.expressions import Tools, unusable
from embedstream.pipelines.model import PipelineFile
from embedstream.pipelines.problem import BadFile, Place, Problem
from embedstream.pipelines.variables import replaced
from embedstream.settings import variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedstream.pipelines.document import Node
    from embedstream.pipelines.model import Pipeline

MOST_BYTES = 1 << 20
_NONE = Tools()


class Loaded(NamedTuple):
    """A file that holds; `root` is what stands in it, with its places, and defaults in every pipeline."""

    path: Path
    root: Node
    pipelines: dict[str, Pipeline]


def load(path: Path, tools: Tools = _NONE, variable: Callable[[str], str | None] = variable) -> Loaded:
    """Raises BadFile, or ConfigError where there is nothing to read."""
    file = str(path)
    text = _text(path)
    root, problems = _root(file, text, variable)
    try:
        read = PipelineFile.model_validate(root.plain())
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        raise BadFile(file, [*problems, *sentences.problems(errors, root)]) from None
    loaded = Loaded(path, root, read.pipelines)
    problems += together.problems(root, read.pipelines)
    problems += unusable(root, read.pipelines, tools)
    if problems:
        raise BadFile(file, problems)
    return loaded


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as exc:  # a name with a zero byte is a ValueError
        raise ConfigError(f"the pipeline file {path} cannot be read: {getattr(exc, 'strerror', exc)}") from exc
    if len(data) > MOST_BYTES:
        raise ConfigError(f"the pipeline file {path} has more than {MOST_BYTES} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        before = data[: exc.start]
        place = Place(before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        raise BadFile(str(path), [Problem(place, "", "this is not UTF-8")]) from exc


def _root(file: str, text: str, variable: Callable[[str], str | None]) -> tuple[Node, list[Problem]]:
    """The whole with the environment's values, and the defaults in every pipeline; and what is wrong already."""
    try:
        from embedstream.pipelines.document import Document, merged  # noqa: PLC0415 - YAML comes with an extra
    except ImportError as exc:
        raise ConfigError(f"{file} needs YAML: pip install 'embedstream[decode]'") from exc
    document = Document(text)
    if document.root is None:
        raise BadFile(file, document.problems or [Problem(Place(1, 1), "", "the file is empty")])
    problems = document.problems
    root = replaced(document.root, variable, problems)
    if not isinstance(root.value, dict):
        raise BadFile(file, [*problems, root.problem("the file is to be a map with version and pipelines")])
    defaults, pipelines = root.value.get("defaults"), root.value.get("pipelines")
    if defaults and pipelines and isinstance(pipelines.value, dict):
        each = {name: merged(defaults, pipeline) for name, pipeline in pipelines.value.items()}
        root = replace(root, value={**root.value, "pipelines": replace(pipelines, value=each)})
    return root, problems
