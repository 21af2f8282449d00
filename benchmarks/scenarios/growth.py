"""What a message costs where the table is large already; a stub for the model, so that the database shows.

The sizes are those before the first round: each round adds its own messages.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import psutil

from benchmarks.cpu import seconds, seconds_of_all
from benchmarks.delivery import latencies, messages, texts_per_second
from benchmarks.fill import Shelf, make_table
from benchmarks.load import percentiles
from benchmarks.plan import Contender, Figures, Plan
from benchmarks.stack import running_service, running_stack
from embedstream import store
from embedstream.index.build import build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

TITLE = "Growth: messages a second by rows in the table (stub model, no index but where it says so)"
FIGURE = "texts_per_second"
BASELINE = "no rows"

INDEXED = "100 thousand rows"

SIZES = {BASELINE: 0, INDEXED: 100_000, "1 million rows": 1_000_000}
RATE = 10


class _Case(NamedTuple):
    plan: Plan
    job: Settings
    shelf: Shelf

    def table(self, rows: int, suffix: str = "") -> Settings:
        rows //= self.plan.size(1, 100)
        filled = self.job.model_copy(update={"pgvector_table": f"filled_{rows}{suffix}"})
        make_table(filled, rows)
        return filled


def contenders(plan: Plan) -> Iterator[Contender]:
    start = plan.closing.enter_context
    stack = start(running_stack(plan.directory, jobs=1))
    stub = start(running_service(plan.directory, "fake:384"))
    job = start(stack.running_job(stack.named("growth", embedding_service_url=stub)))
    case = _Case(plan, job, Shelf(job))
    for name, rows in SIZES.items():
        yield Contender(name, partial(_figures, case, case.table(rows)))
    indexed = case.table(SIZES[INDEXED], "_indexed")
    build(indexed)
    # What costs ten times as much gets a tenth of the messages.
    yield Contender(f"{INDEXED}, index", partial(_figures, case, indexed, share=10))


def _figures(case: _Case, filled: Settings, number: int, share: int = 1) -> Figures:
    plan = case.plan
    case.shelf.put(filled)
    before = _seconds_of_postgres(case.job)
    texts = plan.texts(number, plan.size(20_000, 1000) // share)
    rate = texts_per_second(case.job, texts)
    cost = (_seconds_of_postgres(case.job) - before) / len(texts)
    few = plan.texts(number, RATE * plan.size(20, 3))
    pauses = [random.Random(number).expovariate(RATE) for _ in few]
    waited = latencies(case.job, messages(few), pauses)
    return {FIGURE: rate, "database_cpu_us": 1e6 * cost, **percentiles(waited, (50, 99))}


def _seconds_of_postgres(settings: Settings) -> float:
    """CPU time of the server's processes up to now; those that have ended counted by their parent."""
    with store.connect(settings) as connection:
        [(backend,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
        server = psutil.Process(backend).parent()
        return seconds_of_all(server) - seconds(psutil.Process(backend)) if server else 0.0
