"""What PostgreSQL knows of the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from psycopg.sql import Identifier

from embedstream import store

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg
    from psycopg.sql import Composed

    from embedstream.settings import Settings

# What pgvector keeps of a row while it builds, beyond its vector: measured at its m of 16, with the neighbours.
_NODE_BYTES = 1000
_NUMBER_BYTES = {"vector": 4, "halfvec": 2}

State: TypeAlias = Literal["none", "building", "valid", "invalid"]


@dataclass(frozen=True)
class Index:
    """Searches use a valid index only, but writers pay for an invalid one as well.

    `phase`, `percent` (of the phase) and `tuples` are those of a build, None where this user may not see them; `pid` is
    the backend that builds. `dropped_at` is set where it was dropped by hand, and no backlog has come since.
    """

    state: State
    name: str | None = None
    definition: str | None = None
    bytes: int | None = None
    phase: str | None = None
    percent: float | None = None
    tuples: int | None = None
    pid: int | None = None
    dropped_at: datetime | None = None


class Catalog:
    """The index of one table, over one connection; raises ConfigError where there is no table, or no index for it."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        dimension = store.pinned_space(connection, settings).dimension
        schema = store.pgvector_schema(connection)
        name, vector = store.vector_type(dimension, schema)
        operators = f"{name}_cosine_ops"
        self._connection = connection
        self._facts = {"table": store.Names.of(settings.pgvector_table).table.as_string(), "operators": operators}
        self.bytes_per_row = _NODE_BYTES + dimension * _NUMBER_BYTES[name]
        self._statements: dict[str, Composed] = store.statements(
            settings.pgvector_table,
            "index.sql",
            index=Identifier(f"{settings.pgvector_table.rpartition('.')[2]}_hnsw"),
            vector=vector,
            operators=Identifier(schema, operators) if schema else Identifier(operators),
        )

    def look(self) -> Index:
        name, definition, size, valid, pid, phase, percent, tuples, dropped_at = self.ask("find")
        if valid:
            return Index("valid", name, definition, size, dropped_at=dropped_at)
        if pid:
            return Index("building", name, definition, size, phase, percent, tuples, pid, dropped_at)
        return Index("invalid" if name else "none", name, definition, size, dropped_at=dropped_at)

    def ask(self, statement: str, **facts: object) -> tuple[Any, ...]:
        """The one row of a statement's answer."""
        row: tuple[Any, ...] = self._connection.execute(
            self._statements[statement], {**self._facts, **facts}
        ).fetchall()[0]
        return row

    def count(self) -> int:
        """The rows of the table."""
        return int(self.ask("count")[0])

    def tell(self, statement: str) -> None:
        self._connection.execute(self._statements[statement])


def as_line(index: Index) -> str:
    """One line for people."""
    match index.state:
        case "valid":
            return f"{index.name} is valid, {(index.bytes or 0) / 2**20:,.0f} MiB"
        case "invalid":
            return f"{index.name} is invalid, its build ended early: embedstream index build"
        case "building":
            percent = "" if index.percent is None else f", {index.percent:.0f} %"
            return f"is being built: {index.phase or 'phase not known'}{percent}"
        case "none":
            held = f", dropped by hand at {index.dropped_at:%Y-%m-%d %H:%M} UTC" if index.dropped_at else ""
            return f"none{held}"
