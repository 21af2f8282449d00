"""What is wrong in a pipeline file, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

Path: TypeAlias = tuple[str | int, ...]


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """One sentence about the value under `path`; they sort in the order of the file."""

    place: Place
    path: str
    sentence: str

    def __str__(self) -> str:
        what = f"{self.path}: {self.sentence}" if self.path else self.sentence
        return f"{self.place.line}:{self.place.column}: {what}"


class BadFile(ConfigError):
    """All problems of a pipeline file at once, each a line `FILE:LINE:COLUMN: path: sentence`."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = sorted(set(problems))
        lines = self.lines()
        super().__init__(lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} problems:", *lines]))

    def lines(self) -> list[str]:
        return [f"{self.file}:{problem}" for problem in self.problems]


def dotted(path: Path) -> str:
    """As in `pipelines.articles.tests[0].expect`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")
