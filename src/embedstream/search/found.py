"""Lists of rows, best first, by their meaning or by their words; over one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from psycopg.sql import SQL

from embedstream.search.plan import method_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg
    from psycopg.sql import Composed

    from embedstream.search.answer import Method
    from embedstream.search.asked import Asked

Key: TypeAlias = tuple[Any, ...]
"""What identifies a row: (id,), and of a chunk (id, chunk_key)."""

# What is asked of the index, one after the other until there is enough. Each list begins with the one before, so that
# pages, which need more of it each, neither repeat nor skip.
WINDOWS = (25, 100, 1000)
FUSED_WINDOWS = (100, 1000)
CHUNK_WINDOWS = (100, 1000, 8000)
# More rows than this are not ranked by words.
BOUND = 2000
MOST_BY_WORDS = 1000


class Row(NamedTuple):
    """The score is the similarity, or the rank of the words."""

    key: Key
    score: float


class Found(NamedTuple):
    """`complete`: looking was not ended early; `are_all`: there are no others."""

    rows: Sequence[Row]
    method: Method
    complete: bool = True
    are_all: bool = False


class Lists:
    """`facts` are the parameters of all statements, `key_columns` how many columns a key has."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        statements: dict[str, Composed],
        facts: dict[str, Any],
        key_columns: int,
        *,
        exact: bool,
        index: Asked,
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._facts = facts
        self._key_columns = key_columns
        self._exact = exact
        self._index = index

    def by_meaning(self, need: int, windows: Iterable[int], least: float | None) -> Found:
        """At least `need` rows, where there are so many of a similarity of at least `least`.

        An index that gives fewer rows than it was asked for ended early, since few pass the filter: then all rows are
        looked at.
        """
        return self._by_meaning(need, windows, least, "nearest_exactly", self._key_columns)

    def documents(self, need: int, least: float | None) -> Found:
        """As `by_meaning`, but documents (id,) by their nearest chunks."""
        return self._by_meaning(need, CHUNK_WINDOWS, least, "nearest_documents", 1)

    def by_words(self, matching: str, need: int) -> Found:
        """The rows that match, of very many the best of the first BOUND."""
        self._connection.execute(self._statements["alone"])
        facts = {
            "matching": matching,
            "bound": None if self._exact else BOUND,
            "window": max(need, MOST_BY_WORDS),
        }
        rows = self._run("matching", **facts)
        matches = rows[0][-1] if rows else 0
        method = method_of(self._explain("matching", **facts), by_words=True)
        complete = self._exact or matches < BOUND
        return Found(self._rows(rows, self._key_columns), method, complete, complete and matches == len(rows))

    def _by_meaning(
        self, need: int, windows: Iterable[int], least: float | None, exactly: str, key_columns: int
    ) -> Found:
        found: dict[Key, float] = {}
        for window in () if self._exact else windows:
            facts = {"window": window, "candidates": self._index.candidates(window)}
            self._connection.execute(self._statements["widen"], {**self._facts, **facts})
            if not found and method_of(self._explain(self._index.statement, **facts)) != "index":
                break
            rows = self._rows(self._run(self._index.statement, **facts), self._key_columns)
            if len(rows) < window and not found:
                break
            for row in rows:
                found.setdefault(row.key[:key_columns], row.score)
            if len(found) >= need or (least is not None and rows[-1].score < least):
                return Found(_cut(found, least), "index")
            if len(rows) < window:
                break
        return self._exactly(found, need, least, exactly, key_columns)

    def _exactly(self, found: dict[Key, float], need: int, least: float | None, name: str, key_columns: int) -> Found:
        """Behind what was found already, if anything, all other rows."""
        self._connection.execute(self._statements["exact"])
        rows = self._rows(self._run(name, window=need), key_columns)
        method: Method = "index" if found else method_of(self._explain(name, window=need))
        for row in rows:
            found.setdefault(row.key, row.score)
        return Found(_cut(found, least), method, are_all=len(rows) < need)

    def _run(self, name: str, **facts: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(self._statements[name], {**self._facts, **facts}).fetchall()

    def _explain(self, name: str, **facts: object) -> Any:  # noqa: ANN401 - as PostgreSQL gives it
        statement = SQL("EXPLAIN (FORMAT JSON) {}").format(self._statements[name])
        return self._connection.execute(statement, {**self._facts, **facts}).fetchall()[0][0]

    @staticmethod
    def _rows(rows: Iterable[tuple[Any, ...]], key_columns: int) -> list[Row]:
        return [Row(row[:key_columns], row[key_columns]) for row in rows]


def _cut(found: dict[Key, float], least: float | None) -> list[Row]:
    return [Row(key, score) for key, score in found.items() if least is None or score >= least]
