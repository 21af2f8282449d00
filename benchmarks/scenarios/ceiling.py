"""What the pipelines could do with an infinitely fast model: the service answers with vectors of no meaning.

Not in one run with the real model: PostgreSQL tidies up for a minute after a load of so many rows, and takes the time
from whoever comes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.delivery import texts_per_second
from benchmarks.peers.streaming import STREAMING, streaming_contender
from benchmarks.plan import Contender, Measure, Plan, Skipped
from benchmarks.stack import running_service, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

TITLE = "Ceiling: messages a second from topic to committed rows, with a stub for the model"
FIGURE = "texts_per_second"
BASELINE = "embedstream"


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    start = plan.closing.enter_context
    texts = plan.size(60_000, 4000)
    stack = start(running_stack(plan.directory, jobs=1))
    stub = start(running_service(plan.directory, "fake:384"))
    job = start(stack.running_job(stack.named("stub", embedding_service_url=stub)))

    def measure(settings: Settings, share: int = 1) -> Measure:
        return lambda number: {FIGURE: texts_per_second(settings, plan.texts(number, texts // share))}

    yield Contender(BASELINE, measure(job))
    for peer in STREAMING:
        own = stack.named(peer.package, embedding_service_url=stub)
        yield streaming_contender(plan, peer, own, measure(own, peer.ceiling_share))
