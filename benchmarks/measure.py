"""Runs a scenario: round by round, every contender in each, so that what disturbs the machine disturbs all."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.plan import WARM_UP, Contender, Figures, Plan, Scenario, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Rounds = dict[str, list[Figures]]


def measure(scenario: Scenario, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """The scenario's part of a result: rounds, summary, ratios, and what was left out."""
    entries = list(scenario.contenders(plan))
    contenders = [entry for entry in entries if isinstance(entry, Contender)]
    skipped = {entry.name: entry.reason for entry in entries if isinstance(entry, Skipped)}
    for name, reason in skipped.items():
        say(f"{name}: left out: {reason}")
    rounds: Rounds = {contender.name: [] for contender in contenders}
    for number in range(WARM_UP, plan.rounds):
        for contender in contenders:
            figures = contender.measure(number)
            say(f"{_round(number)} {contender.name}: {_line(figures)}")
            if number != WARM_UP:
                rounds[contender.name].append(figures)
    return {
        "rounds": rounds,
        "figures": summaries(rounds),
        "ratios": ratios(rounds, scenario.FIGURE, scenario.BASELINE),
        "skipped": skipped,
        "peers": {contender.name: dict(contender.versions) for contender in contenders if contender.versions},
    }


def _round(number: int) -> str:
    return "warm-up" if number == WARM_UP else f"round {number + 1}"


def _line(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in figures.items())


def summaries(rounds: Mapping[str, Sequence[Figures]]) -> dict[str, dict[str, dict[str, float]]]:
    """By contender and figure."""
    return {
        contender: {name: summary([figures[name] for figures in own]) for name in (own[0] if own else ())}
        for contender, own in rounds.items()
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """`spread` is the range as a share of the median."""
    median = statistics.median(values)
    low, high = min(values), max(values)
    return {"median": median, "min": low, "max": high, "spread": (high - low) / median if median else 0.0}


def ratios(
    rounds: Mapping[str, Sequence[Figures]], figure: str, baseline: str | None
) -> dict[str, dict[str, float | str]]:
    """Each contender's figure over the baseline's of the same round."""
    base = rounds.get(baseline or "", ())
    return {
        contender: {"to": str(baseline), "figure": figure, **summary(_quotients(own, base, figure))}
        for contender, own in rounds.items()
        if base and contender != baseline and figure in own[0]
    }


def _quotients(own: Sequence[Figures], base: Sequence[Figures], figure: str) -> list[float]:
    return [mine[figure] / theirs[figure] for mine, theirs in zip(own, base, strict=True)]
