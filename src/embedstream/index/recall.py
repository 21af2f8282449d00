"""How many of the nearest rows are found by the vector index: searches by it, held against exact ones."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from embedstream import store
from embedstream.display import silently
from embedstream.errors import ConfigError
from embedstream.index.state import Catalog, command
from embedstream.search.problem import InvalidRequest
from embedstream.search.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embedstream.display import Watch
    from embedstream.search.answer import Answer
    from embedstream.settings import Settings

NEAREST = 10
ROWS = 20


@dataclass(frozen=True)
class Recall:
    """`mean` and `worst` are shares of the `k` nearest rows, 0 to 1; the times are medians of a search."""

    table: str
    rows: int
    index: str
    k: int
    ef_search: int | None
    queries: int
    mean: float
    worst: float
    index_ms: float
    exact_ms: float


class _Compared(NamedTuple):
    share: float
    index_ms: float
    exact_ms: float


def measure(
    settings: Settings,
    find: Callable[[Request], Answer],
    *,
    k: int = NEAREST,
    queries: int = ROWS,
    ef_search: int | None = None,
    watch: Watch = silently,
) -> Recall:
    """Look for what is like some rows, chosen at random, by the index and exactly; a row itself is not counted.

    `find` is what answers searches. Raises ConfigError where there is no valid index, where PostgreSQL does not use it
    for these searches, and where the table has fewer rows than are looked for.
    """
    table = settings.pgvector_table
    with store.database(settings) as connection:
        catalog = Catalog(connection, settings)
        index, rows = catalog.look(), catalog.count()
        if index.state != "valid" or index.name is None:
            raise ConfigError(
                f"table {table} has no valid vector index, so that searches are exact: {command('build', 'vector')}"
            )
        ids = catalog.some(queries)
    with watch("comparing the index with exact searches", len(ids)) as update:
        found = list(_compared(settings, find, ids, Request(id="", k=k, ef_search=ef_search), update))
    if not found:
        raise ConfigError(f"table {table} has no rows: there is nothing to look for")
    shares, by_index, exactly = zip(*found, strict=True)
    return Recall(
        table, rows, index.name, k, ef_search, len(found), round(fmean(shares), 4), round(min(shares), 4),
        round(median(by_index), 1), round(median(exactly), 1),
    )  # fmt: skip


def _compared(
    settings: Settings,
    find: Callable[[Request], Answer],
    ids: Sequence[str],
    request: Request,
    update: Callable[[int], None],
) -> Iterator[_Compared]:
    for done, id in enumerate(ids, 1):
        asked = request.model_copy(update={"id": id})
        try:
            by_index, exactly = find(asked), find(asked.model_copy(update={"exact": True}))
        except InvalidRequest:  # the row was deleted meanwhile
            continue
        _check(settings, request.k, by_index, exactly)
        yield _Compared(share(by_index, exactly), by_index.took_ms["database"], exactly.took_ms["database"])
        update(done)


def _check(settings: Settings, k: int, by_index: Answer, exactly: Answer) -> None:
    table = settings.pgvector_table
    if len(exactly.hits) < k:
        raise ConfigError(f"table {table} has too few rows: a search for the {k} nearest finds {len(exactly.hits)}")
    if by_index.method != "index":
        raise ConfigError(
            f"PostgreSQL does not use the index of table {table} for these searches: it takes comparing all rows to be "
            "faster, so that answers are exact"
        )


def share(by_index: Answer, exactly: Answer) -> float:
    """How much of the exact answer was found; of rows that are equally far any will do."""
    farthest = exactly.hits[-1].score
    return sum(hit.score >= farthest for hit in by_index.hits) / len(exactly.hits)


def as_lines(recall: Recall) -> Iterator[str]:
    """For people."""
    yield f"table {recall.table}, {recall.rows:,} rows"
    yield (
        f"{recall.index} finds {100 * recall.mean:.1f} % of the {recall.k} nearest rows, at worst "
        f"{100 * recall.worst:.0f} % ({recall.queries:,} rows looked for)"
    )
    yield f"a search takes {recall.index_ms:g} ms by the index, {recall.exact_ms:g} ms exactly (p50)"
