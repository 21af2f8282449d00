"""What the vector index costs and finds by what it holds: vectors whole, in halves, or as signs (INDEX_TYPE)."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, get_args

from psycopg.sql import SQL, Identifier

from benchmarks.load import percentiles
from benchmarks.plan import WARM_UP, Contender, Figures, Plan
from benchmarks.vectors import BLOCK, Vectors, fill
from embedstream import store
from embedstream.index.build import build
from embedstream.index.recall import measure
from embedstream.local.part import running
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.local.postgres import SUPERUSER, Postgres
from embedstream.search.request import Request
from embedstream.search.searcher import Searcher
from embedstream.settings import load_settings
from embedstream.space import Space
from embedstream.store.vectors import IndexType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedstream.index.state import Index
    from embedstream.settings import Settings

TITLE = "The vector index by what it holds: milliseconds a search for the ten nearest rows takes"
FIGURE = "p50_ms"
BASELINE = None

ROWS = 100_000
DIMENSIONS = (384, 1024)
_MOST_MEMORY_MB = 6144
# The block behind all that a table is filled with.
_QUERIES = 1_000_000


def contenders(plan: Plan, rows: int = ROWS, dimensions: Sequence[int] = DIMENSIONS) -> Iterator[Contender]:
    port = free_port()
    server = Postgres(plan.directory / "postgres", port, "embeddings_db", plan.directory / "postgres.log")
    plan.closing.enter_context(running(server))
    for dimension in dimensions:
        settings = load_settings(
            pgvector_host=LOOPBACK, pgvector_port=port, pgvector_user=SUPERUSER, pgvector_password="",
            pgvector_table=f"of_{dimension}", index_memory_mb=_MOST_MEMORY_MB,
        )  # fmt: skip
        vectors = Vectors(dimension, plan.seed)
        store.prepare(settings, Space("synthetic", "1", dimension, normalised=True, max_tokens=256))
        fill(settings, vectors, plan.size(rows, 2 * BLOCK))
        if plan.quick:
            _read_by_index(settings)
        for type_ in get_args(IndexType):
            typed = settings.model_copy(update={"index_type": type_})
            yield Contender(f"{dimension} dimensions, {type_}", partial(_figures, plan, typed, vectors, _built(typed)))


def _read_by_index(settings: Settings) -> None:
    """PostgreSQL takes reading so few rows to be faster."""
    with store.connect(settings) as connection:
        connection.execute("ALTER DATABASE embeddings_db SET enable_seqscan = off")


def _built(settings: Settings) -> Figures:
    """Under a name that no other build takes for one that it replaces."""
    began = time.perf_counter()
    index: Index = build(settings)
    seconds = time.perf_counter() - began
    with store.connect(settings) as connection:
        kept = Identifier(f"{settings.pgvector_table}_{settings.index_type}_kept")
        connection.execute(SQL("ALTER INDEX {} RENAME TO {}").format(Identifier(index.name or ""), kept))
    return {"build_s": seconds, "index_mib": (index.bytes or 0) / 2**20}


def _figures(plan: Plan, settings: Settings, vectors: Vectors, built: Figures, number: int) -> Figures:
    """Of vectors that are in no row; what is found of the rows themselves is `recall`, a share of the ten nearest."""
    queries = vectors.block(_QUERIES + number, plan.count(number, 500, 20))
    with Searcher(settings, connections=1) as searcher:
        answers = [searcher.search(Request(vector=query.tolist())) for query in queries]
        found = measure(settings, searcher.search, queries=plan.count(number, 100, 5))
    if number == WARM_UP:
        return {}
    seconds = [answer.took_ms["database"] / 1000 for answer in answers]
    by_index = sum(answer.method == "index" for answer in answers) / len(answers)
    return {
        **percentiles(seconds, (50, 99)), "by_index": by_index, "recall": found.mean, "worst": found.worst,
        "exact_ms": found.exact_ms, **built,
    }  # fmt: skip
