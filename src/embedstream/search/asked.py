"""Which vector index a search asks, and for how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from psycopg.sql import SQL

from embedstream.store import vectors

if TYPE_CHECKING:
    from collections.abc import Collection

    from psycopg.sql import Composed

    from embedstream.settings import Settings

# As many rows INDEX_RERANK is for.
_RERANKED_ROWS = 25


class Asked(NamedTuple):
    """`statement` finds the nearest rows, sorted by `nearness` in the index, `breadth` candidates for each."""

    statement: str
    nearness: Composed
    breadth: float

    @classmethod
    def of(cls, classes: Collection[str], settings: Settings, dimension: int) -> Self:
        """The index that INDEX_TYPE names, or else any: `classes` are the operator classes of those that are valid."""
        natural, _ = vectors.vector_type(dimension)
        there = [type_ for name, type_ in vectors.OPERATOR_CLASSES.items() if name in classes]
        wanted = vectors.index_type(settings.index_type, dimension)
        type_ = wanted if wanted in there else (*there, natural)[0]
        return cls(
            "nearest" if type_ == natural else "nearest_reranked",
            vectors.nearness(type_, dimension, SQL("%(vector)s::real[]")),
            settings.index_rerank / _RERANKED_ROWS if type_ == "bit" else 1,
        )

    def candidates(self, window: int) -> int:
        return int(window * self.breadth)
