"""From the topic to committed rows, with the real model, as a share of the raw engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.delivery import texts_per_second
from benchmarks.peers.naive_flink import running_naive_job
from benchmarks.peers.streaming import STREAMING, streaming_contender
from benchmarks.plan import Contender, Measure, Plan, Skipped
from benchmarks.raw import ENGINE, RawEngine
from benchmarks.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

TITLE = "Pipeline: messages a second from topic to committed rows"
FIGURE = "texts_per_second"
BASELINE = ENGINE


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    start = plan.closing.enter_context
    texts = plan.size(2000, 200)
    stack = start(running_stack(plan.directory, jobs=2))
    job = start(stack.running_job(stack.named("real")))
    naive = start(running_naive_job(stack, stack.named("naive")))
    engine = RawEngine()

    def measure(settings: Settings, share: int = 1) -> Measure:
        return lambda number: {FIGURE: texts_per_second(settings, plan.texts(number, texts // share))}

    yield Contender(ENGINE, lambda number: {FIGURE: engine.texts_per_second(plan.texts(number, texts))})
    yield Contender("embedstream", measure(job))
    yield Contender("naive Flink job", measure(naive, 4))
    for peer in STREAMING:
        own = stack.named(peer.package)
        yield streaming_contender(plan, peer, own, measure(own))
