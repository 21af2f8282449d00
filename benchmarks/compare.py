"""Two results of one scenario, figure by figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Change(NamedTuple):
    """A figure's medians in both results; `clear` where the ranges of their rounds do not overlap."""

    contender: str
    figure: str
    before: float
    after: float
    clear: bool

    @property
    def share(self) -> float:
        return self.after / self.before - 1 if self.before else 0.0


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """The ratios first: they can be compared where the machines differ."""
    for contender, ratio in before["ratios"].items():
        if (other := after["ratios"].get(contender)) and other["to"] == ratio["to"]:
            yield _change(contender, f"{ratio['figure']} / {ratio['to']}", ratio, other)
    for contender, figures in before["figures"].items():
        for name, one in figures.items():
            if other := after["figures"].get(contender, {}).get(name):
                yield _change(contender, name, one, other)


def _change(contender: str, figure: str, before: Mapping[str, float], after: Mapping[str, float]) -> Change:
    clear = before["max"] < after["min"] or after["max"] < before["min"]
    return Change(contender, figure, before["median"], after["median"], clear)


def warnings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What makes the figures, though not always the ratios, no comparison."""
    if before["scenario"] != after["scenario"]:
        yield f"the scenarios differ: {before['scenario']}, {after['scenario']}"
    for name in ("texts", "settings"):
        if before[name] != after[name]:
            yield f"the {name} differ: {before[name]}, {after[name]}"
    for name in ("cpu", "flags", "cpus_of_affinity_and_cgroup"):
        if before["machine"][name] != after["machine"][name]:
            yield f"the machines differ ({name})"


def rendered(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"warning: {warning}" for warning in warnings(before, after))
    yield f"{'contender':<34}{'figure':<34}{'before':>12}{'after':>12}{'change':>9}"
    for change in changes(before, after):
        numbers = f"{change.before:>12.5g}{change.after:>12.5g}{change.share:>9.1%}"
        yield f"{change.contender:<34}{change.figure:<34}{numbers}{'' if change.clear else '  within the spread'}"
