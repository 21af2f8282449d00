"""A table that goes to another model while messages come; stubs for both models, so that the pipeline shows.

Each contender fills the other table twice: beside a paced stream, at half of what the pipeline can do, and beside one
that comes as fast as the broker takes it, before which the filling gives way. Then it cuts over, under a reader.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from psycopg.sql import SQL

from benchmarks.delivery import latencies, messages, texts_per_second
from benchmarks.fill import make_table
from benchmarks.load import percentiles
from benchmarks.plan import Contender, Figures, Plan
from benchmarks.stack import running_service, running_stack
from embedstream import store
from embedstream.errors import EmbedstreamError
from embedstream.local.stack import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

TITLE = "Migration: the live stream beside a move of 100,000 rows to another model (stub models)"
FIGURE = "texts_per_second"
BASELINE = "undisturbed"

ROWS = 100_000
MODELS = ("fake:384", "fake:385")
SHARES = (0.25, 1.0)
SHARE_OF_MAXIMUM = 0.5
PACED_SECONDS = 5
UNTIL_CUT_OVER = 2.0
# What `make_table` made is of no topic that there is.
_REMOVE = (
    "DELETE FROM {table} WHERE id IN (SELECT id FROM {ledger} WHERE topic <> 'elsewhere')",
    "DELETE FROM {ledger} WHERE topic <> 'elsewhere'",
    "VACUUM ANALYZE {table}, {ledger}",
)


@dataclass
class Case:
    """`urls` are those of the two services, the first that of the table's model; a paced stream has `rate` messages a
    second, by what the round's undisturbed one came to.
    """

    plan: Plan
    job: Settings
    urls: list[str]
    rate: float = 0.0

    @property
    def rows(self) -> int:
        return self.plan.size(ROWS, 3000)

    def texts(self, number: int) -> list[str]:
        return self.plan.texts(number, self.plan.count(number, 40_000, 2000))

    def migrate(self, *arguments: str) -> dict[str, Any]:
        """Run a command of a migration; its answer, with the `seconds` that it took."""
        command = [sys.executable, "-m", "embedstream", "migrate", *arguments, "--json"]
        began = time.monotonic()
        done = subprocess.run(command, env=environment(self.job), capture_output=True, text=True, check=False)
        if done.returncode:
            raise EmbedstreamError(f"migrate {arguments[0]} ended with {done.returncode}: {done.stderr}")
        return {**cast("dict[str, Any]", json.loads(done.stdout)), "seconds": time.monotonic() - began}

    def fill(self, share: float) -> dict[str, Any]:
        return self.migrate("start", "--service", self.urls[1], "--share", str(share))


def contenders(plan: Plan) -> Iterator[Contender]:
    start = plan.closing.enter_context
    stack = start(running_stack(plan.directory, jobs=1))
    urls = [start(running_service(plan.directory, model)) for model in MODELS]
    own = stack.named("migration", embedding_service_url=urls[0])
    case = Case(plan, own, urls)
    make_table(own, case.rows)
    start(stack.running_job(own))
    yield Contender(BASELINE, partial(_undisturbed, case))
    for share in SHARES:
        yield Contender(f"share {share:g}", partial(_moved, case, share))


def _undisturbed(case: Case, number: int) -> Figures:
    _remove_messages(case.job)
    rate = texts_per_second(case.job, case.texts(number))
    case.rate = SHARE_OF_MAXIMUM * rate
    return {FIGURE: rate, **percentiles(_paced(case, number), (50, 99))}


def _remove_messages(job: Settings) -> None:
    """Every contender begins with the same rows: those that came by themselves."""
    with store.connect(job) as connection:
        for statement in _REMOVE:
            connection.execute(SQL(statement).format(**store.Names.of(job.pgvector_table)._asdict()))


def _moved(case: Case, share: float, number: int) -> Figures:
    _remove_messages(case.job)
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(case.fill, share)
        seconds = list(_paced(case, number))
        while not filling.done():
            seconds += _paced(case, number)
        filled = filling.result()
        case.migrate("abort")
        _remove_messages(case.job)
        filling = pool.submit(case.fill, share)
        _await_migration(case)
        rate = texts_per_second(case.job, case.texts(number))
        filling.result()
        cut = _cut_over(case, number, pool)
    filling_figures = {"filling_s": filled["seconds"], "rows_per_second": case.rows / filled["seconds"]}
    return {FIGURE: rate, **percentiles(seconds, (50, 99)), **filling_figures, **cut}


def _await_migration(case: Case) -> None:
    """Until writers write beside as well."""
    with store.connect(case.job) as connection:
        query = "SELECT to_regclass(%s) IS NOT NULL"
        while connection.execute(query, [store.migration_of(case.job.pgvector_table).as_string()]).fetchone() == (
            False,
        ):
            time.sleep(0.05)


def _cut_over(case: Case, number: int, pool: ThreadPoolExecutor) -> Figures:
    """Under the paced stream, and beside a reader that asks again and again; the table is of the other model then."""
    stream = pool.submit(_paced, case, number)
    with _reading(case.job) as waits:
        time.sleep(UNTIL_CUT_OVER)
        cut = case.migrate("cut-over")
        longest_write = max(stream.result())
    case.migrate("finish")
    case.urls.reverse()
    return {
        "readers_blocked_ms": cut["blocked_ms"],
        "writers_blocked_ms": cut["waited_ms"],
        "longest_read_ms": 1000 * max(waits),
        "longest_write_ms": 1000 * longest_write,
    }


def _paced(case: Case, number: int) -> list[float]:
    """Latencies of a few seconds' messages, which come at random moments."""
    count = max(10, round(case.rate * PACED_SECONDS))
    chance = random.Random(f"{case.plan.seed}/{number}")
    pauses = [chance.expovariate(case.rate) for _ in range(count)]
    return latencies(case.job, messages(case.plan.texts(number, count)), pauses)


@contextmanager
def _reading(settings: Settings) -> Iterator[list[float]]:
    """How long each query took, in seconds, of a reader who asks for a row again and again."""
    waits: list[float] = []
    is_over = threading.Event()
    query = SQL("SELECT text FROM {table} LIMIT 1").format(table=store.Names.of(settings.pgvector_table).table)

    def read() -> None:
        with store.connect(settings) as connection:
            while not is_over.wait(0.001):
                began = time.perf_counter()
                connection.execute(query).fetchall()
                waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield waits
    finally:
        is_over.set()
        thread.join()
