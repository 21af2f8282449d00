"""What a scenario is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from benchmarks.texts import prose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

WARM_UP = -1
"""The number of the round that counts for nothing."""

Figures = Mapping[str, float]
Measure = Callable[[int], Figures]
"""Runs one round, whose number it is given, and returns its figures by name."""


@dataclass(frozen=True)
class Contender:
    """`versions` are those of what runs outside this environment."""

    name: str
    measure: Measure
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """What cannot run here, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """How a scenario is to be run; `directory` is for what it writes, `closing` ends what it starts."""

    rounds: int
    seed: int
    quick: bool
    directory: Path
    closing: ExitStack

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def count(self, number: int, full: int, quick: int) -> int:
        """How many in a round, of which the one to warm up has no more than those of a quick run."""
        return quick if number == WARM_UP else self.size(full, quick)

    def texts(self, number: int, count: int) -> list[str]:
        """The texts of a round: the same for all contenders, others in each round."""
        return prose(count, f"{self.seed}/{number}")


class Scenario(Protocol):
    """A module: `FIGURE` of each contender is compared with that of `BASELINE`, round by round."""

    TITLE: str
    FIGURE: str
    BASELINE: str | None

    def contenders(self, plan: Plan) -> Iterator[Contender | Skipped]: ...
