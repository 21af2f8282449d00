"""Searches through the console's API over a table with all its indexes: what a client waits, and what the database."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from benchmarks.load import percentiles
from benchmarks.plan import Contender, Figures, Plan
from benchmarks.stack import running_stack
from benchmarks.texts import prose
from embedstream import embedding, store
from embedstream.index.build import build
from embedstream.index.state import KINDS
from embedstream.local.console import Console
from embedstream.local.part import running
from embedstream.local.ports import free_port
from embedstream.local.stack import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedstream.settings import Settings
    from embedstream.space import Space

    Body = dict[str, Any]

TITLE = "Search: milliseconds a search through the API, the query's embedding among them"
FIGURE = "p50_ms"
BASELINE = "hybrid"

K = 10
RARE_OF = 1000
CLIENTS = 50
WORDS = 4

_RARE = {"field": "metadata.rare", "value": True}
_BODIES: dict[str, Body] = {
    "hybrid": {"mode": "hybrid"},
    "semantic": {"mode": "semantic"},
    "keyword": {"mode": "keyword"},
    f"hybrid, a filter of {1 / RARE_OF:.1%}": {"mode": "hybrid", "where": _RARE},
    f"semantic, a filter of {1 / RARE_OF:.1%}": {"mode": "semantic", "where": _RARE},
    "semantic, exact": {"mode": "semantic", "exact": True},
}
_COPY = """
COPY {table} (
    id, text, embedding, model_name, model_revision, message_timestamp, embedding_timestamp, metadata, token_count,
    truncated
) FROM STDIN
"""


def contenders(plan: Plan) -> Iterator[Contender]:
    start = plan.closing.enter_context
    stack = start(running_stack(plan.directory, jobs=1))
    rows = plan.size(20_000, 2000)
    settings = stack.named("search", console_port=free_port())
    texts = prose(rows, f"{plan.seed}/rows")
    _fill(settings, texts, plan.seed)
    for kind in KINDS:
        build(settings, kind=kind)
    console = Console(settings.console_port, environment(settings), plan.directory / "console.log")
    start(running(console))
    url = f"{console.address}/v1/search"
    for name, body in _BODIES.items():
        yield Contender(name, partial(_one_after_another, plan, url, texts, body))
    yield Contender(f"hybrid, {CLIENTS} at once", partial(_at_once, plan, url, texts, _BODIES["hybrid"]))


def _one_after_another(plan: Plan, url: str, texts: Sequence[str], body: Body, number: int) -> Figures:
    with httpx.Client(timeout=60, trust_env=False) as client:
        answers = [_search(client, url, body | {"query": query}) for query in _queries(plan, texts, number)]
    database = percentiles([facts["steps_ms"]["database"] / 1000 for _, facts in answers], (50, 99))
    return {
        **percentiles([seconds for seconds, _ in answers], (50, 99)),
        **{f"database_{name}": value for name, value in database.items()},
        "rows": min(len(facts["hits"]) for _, facts in answers),
        "complete": sum(facts["complete"] for _, facts in answers) / len(answers),
    }


def _at_once(plan: Plan, url: str, texts: Sequence[str], body: Body, number: int) -> Figures:
    queries = _queries(plan, texts, number, each=4)
    with httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=CLIENTS)) as client:
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(lambda query: _search(client, url, body | {"query": query}), queries))
        rate = len(queries) / (time.perf_counter() - began)
    return {**percentiles([seconds for seconds, _ in answers], (50, 99)), "searches_per_second": rate}


def _search(client: httpx.Client, url: str, body: Body) -> tuple[float, Body]:
    began = time.perf_counter()
    answer = client.post(url, json=body | {"k": K})
    seconds = time.perf_counter() - began
    answer.raise_for_status()
    return seconds, answer.json()


def _queries(plan: Plan, texts: Sequence[str], number: int, each: int = 1) -> list[str]:
    """Some words that follow each other in some text."""
    chosen = random.Random(f"{plan.seed}/{number}")
    queries = []
    for _ in range(each * plan.count(number, 200, 20)):
        words = chosen.choice(texts).split()
        first = chosen.randrange(max(1, len(words) - WORDS))
        queries.append(" ".join(words[first : first + WORDS]))
    return queries


def _fill(settings: Settings, texts: Sequence[str], seed: int) -> None:
    """Vectors drawn at random, which an index finds hardest, and one row in RARE_OF with a mark in its metadata."""
    space = embedding.read_space(settings)
    store.prepare(settings, space)
    table = store.Names.of(settings.pgvector_table).table.as_string()
    with store.connect(settings) as connection:
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(_COPY.format(table=table)) as copy:
            for row in _rows(texts, space, seed):
                copy.write_row(row)
        connection.execute(f"VACUUM ANALYZE {table}")


def _rows(texts: Sequence[str], space: Space, seed: int) -> Iterator[tuple[Any, ...]]:
    generator = np.random.default_rng(seed)
    for number, text in enumerate(texts):
        vector = generator.standard_normal(space.dimension).astype(np.float32)
        vector /= np.linalg.norm(vector)
        metadata = '{"rare": true}' if number % RARE_OF == 0 else '{"rare": false}'
        yield (
            f"row-{number}", text, vector.tolist(), space.model_name, space.model_revision, "2026-01-01", "2026-01-01",
            metadata, 20, False,
        )  # fmt: skip
