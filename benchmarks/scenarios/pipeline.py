"""From the topic to committed rows, as a share of the raw engine; with a stub for the model as the ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.delivery import messages, seconds_to_table
from benchmarks.peers.naive_flink import running_naive_job
from benchmarks.peers.process import PeerFailed
from benchmarks.peers.streaming import STREAMING, Streaming, running_streaming
from benchmarks.plan import Contender, Figures, Measure, Plan, Skipped
from benchmarks.raw import ENGINE, RawEngine
from benchmarks.stack import running_service, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

TITLE = "Pipeline: messages a second from topic to committed rows"
FIGURE = "texts_per_second"
BASELINE = ENGINE
CEILING = "stub_texts_per_second"
"""A figure of its own: the engine is no measure for what runs without it."""
STUB = ", stub model"


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    start = plan.closing.enter_context
    texts, ceiling_texts = plan.size(2000, 200), plan.size(60_000, 4000)
    stack = start(running_stack(plan.directory, jobs=3))
    stub = start(running_service(plan.directory, "fake:384"))
    real = start(stack.running_job(stack.named("real")))
    ceiling = start(stack.running_job(stack.named("stub", embedding_service_url=stub)))
    naive = start(running_naive_job(stack, stack.named("naive")))
    engine = RawEngine()

    def model(job: Settings) -> Measure:
        return lambda number: _rate(job, plan.texts(number, texts))

    def stub_model(job: Settings, share: int = 1) -> Measure:
        return lambda number: _ceiling(job, plan.texts(number, ceiling_texts // share))

    yield Contender(ENGINE, lambda number: {FIGURE: engine.texts_per_second(plan.texts(number, texts))})
    yield Contender("embedstream", model(real))
    yield Contender("naive Flink job", lambda number: _rate(naive, plan.texts(number, texts // 4)))
    for peer in STREAMING:
        own = stack.named(peer.package)
        yield _contender(plan, peer, peer.name, own, model(own))
    yield Contender(f"embedstream{STUB}", stub_model(ceiling))
    for peer in STREAMING:
        own = stack.named(f"{peer.package}_stub", embedding_service_url=stub)
        yield _contender(plan, peer, f"{peer.name}{STUB}", own, stub_model(own, peer.ceiling_share))


def _contender(plan: Plan, peer: Streaming, name: str, settings: Settings, measure: Measure) -> Contender | Skipped:
    try:
        version = peer.version()
        plan.closing.enter_context(running_streaming(peer, settings, plan.directory))
    except PeerFailed as exc:
        return Skipped(name, str(exc))
    return Contender(name, measure, version)


def _rate(settings: Settings, texts: list[str]) -> Figures:
    return {FIGURE: len(texts) / seconds_to_table(settings, messages(texts))}


def _ceiling(settings: Settings, texts: list[str]) -> Figures:
    return {CEILING: _rate(settings, texts)[FIGURE]}
