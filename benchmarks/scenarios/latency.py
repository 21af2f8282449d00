"""From `produce` to the commit of the row, at rates that the pipeline can keep up with."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.delivery import latencies, messages, texts_per_second
from benchmarks.load import percentiles
from benchmarks.plan import WARM_UP, Contender, Figures, Plan, Skipped
from benchmarks.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

TITLE = "Latency: from produced to searchable"
FIGURE = "p50_ms"
BASELINE = None

RATES = (1, 10, 100)
SHARE_OF_MAXIMUM = 0.8
HIGHEST_SHARE = 0.95


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    stack = plan.closing.enter_context(running_stack(plan.directory, jobs=1))
    settings = plan.closing.enter_context(stack.running_job(stack.named("latency")))
    maximum = _maximum(plan, settings)
    for rate in RATES:
        name = f"{rate} a second"
        if rate > HIGHEST_SHARE * maximum:
            yield Skipped(name, f"this machine's maximum is {maximum:.0f} a second")
        else:
            yield Contender(name, partial(_figures, plan, settings, rate))
    yield Contender("80 % of the maximum", partial(_figures, plan, settings, SHARE_OF_MAXIMUM * maximum))


def _maximum(plan: Plan, settings: Settings) -> float:
    """Of the second of two runs."""
    texts = plan.texts(WARM_UP, plan.size(1000, 100))
    _, second = (texts_per_second(settings, texts) for _ in range(2))
    return second


def _figures(plan: Plan, settings: Settings, rate: float, number: int) -> Figures:
    """Messages come as people send them: at random moments, so many a second in the long run."""
    count = max(10, round(rate * plan.count(number, 60, 5)))
    chance = random.Random(f"{plan.seed}/{number}/{rate}")
    pauses = [chance.expovariate(rate) for _ in range(count)]
    seconds = latencies(settings, messages(plan.texts(number, count)), pauses)
    return {"messages": count, "rate": count / sum(pauses), **percentiles(seconds, (50, 95, 99))}
