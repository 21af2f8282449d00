"""The expressions of a pipeline, each with the path that leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstream.decode.spec import TextSource, TimestampSource
from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from embedstream.decode.spec import Decoding
    from embedstream.pipelines.document import Node
    from embedstream.pipelines.model import Pipeline
    from embedstream.pipelines.problem import Path, Problem


class Tools(NamedTuple):
    """What tells whether expressions can mean anything, by raising ConfigError with `column` (from 1) and `path`.

    `compile` gets an expression, and whether `item` may stand in it; `build` gets all that a pipeline says of records.
    """

    compile: Callable[[str, bool], object] = lambda text, has_item: None  # noqa: ARG005
    build: Callable[[Decoding], object] = lambda decoding: None  # noqa: ARG005


def of(pipeline: Pipeline) -> Iterator[tuple[Path, str]]:
    for name in ("each", "where", "delete", "id", "source"):
        yield from _each((name,), getattr(pipeline, name))
    if pipeline.version not in ("time", "record"):
        yield from _each(("version",), pipeline.version)
    for name, given in (("text", pipeline.text), ("timestamp", pipeline.timestamp)):
        if isinstance(given, TextSource | TimestampSource):
            yield from _each((name, "from"), given.from_)
        else:
            yield from _each((name,), given)
    if isinstance(pipeline.metadata, dict):
        for key, text in pipeline.metadata.items():
            yield ("metadata", key), text
    if pipeline.chunks:
        yield from _each(("chunks", "prefix"), pipeline.chunks.prefix)


def _each(path: Path, given: object) -> Iterator[tuple[Path, str]]:
    if isinstance(given, str):
        yield path, given
    elif isinstance(given, tuple):
        yield from (((*path, index), text) for index, text in enumerate(given))


def unusable(root: Node, pipelines: Mapping[str, Pipeline], tools: Tools) -> Iterator[Problem]:
    """What cannot mean anything, at its column where it stands on one line."""
    for name, pipeline in pipelines.items():
        found = [each for path, text in of(pipeline) for each in _tried(path, text, pipeline, tools)]
        for path, exc in found or _built(pipeline, tools):
            yield problem(root, ("pipelines", name, *path), str(exc), getattr(exc, "column", 1))


def _tried(path: Path, text: str, pipeline: Pipeline, tools: Tools) -> Iterator[tuple[Path, ConfigError]]:
    try:
        tools.compile(text, pipeline.each is not None and path != ("each",))
    except ConfigError as exc:
        yield path, exc


def _built(pipeline: Pipeline, tools: Tools) -> Iterator[tuple[Path, ConfigError]]:
    try:
        tools.build(pipeline.decoding)
    except ConfigError as exc:
        yield getattr(exc, "path", ()), exc


def problem(root: Node, path: Path, sentence: str, column: int = 1) -> Problem:
    """Where the file has what stands at the path, or as much of it as there is; a column of a text of several lines is
    told in the sentence.
    """
    node = root
    for step in path:
        if (child := node.child(step)) is None:
            break
        node = child
    if node.is_plain and "\n" not in node.written:
        return node.problem(sentence, column - 1)
    return node.problem(f"{sentence} (character {column})" if column > 1 else sentence)
