"""What PostgreSQL knows of an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from psycopg.sql import SQL, Identifier

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.store import vectors
from embedstream.store.words import WORDS, WORDS_AS_DEFINED

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import psycopg
    from psycopg.sql import Composable, Composed

    from embedstream.settings import Settings
    from embedstream.store.vectors import IndexType

Kind: TypeAlias = Literal["vector", "words", "metadata"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES: dict[Kind, str] = {"vector": "vector index", "words": "word index", "metadata": "metadata index"}
WITHOUT: dict[Kind, str] = {
    "vector": "searches are exact",
    "words": "searches by words read every row",
    "metadata": "filters read every row",
}

# What pgvector keeps of a row while it builds, beyond its vector: measured at its m of 16, with the neighbours.
_NODE_BYTES = 1000
# Of a vector index that holds another type than the view has; two may be there, while one takes the place of the other.
_SUFFIXES: dict[IndexType, str] = {"halfvec": "hnsw_half", "bit": "hnsw_bit"}
_SUFFIX = "hnsw"

State: TypeAlias = Literal["none", "building", "valid", "invalid"]


@dataclass(frozen=True)
class Index:
    """Searches use a valid index only, but writers pay for an invalid one as well.

    `phase`, `percent` (of the phase) and `tuples` are those of a build, None where this user may not see them; `pid` is
    the backend that builds. `dropped_at` is set where it was dropped by hand, and no backlog has come since. `type` is
    that of a vector index.
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
    type: IndexType | None = None


class Catalog:
    """The index of one kind of one table, over one connection.

    Raises ConfigError where there is no table, none of this version, or no index for it.
    """

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings, kind: Kind = "vector") -> None:
        table = settings.pgvector_table
        space = store.pinned_space(connection, settings)
        relation = store.Names.of(table).table
        if kind == "metadata" and store.read_splitting(connection, settings) is not None:
            relation = store.documents_of(table)
        plan = _PLANS[kind](connection, settings, space.dimension)
        if plan.dropped_at not in store.columns(connection, store.Names.of(table).space):
            raise ConfigError(f"table {table} is of an earlier version: embedstream submit --replace")
        self._connection = connection
        self._facts = {
            "table": store.Names.of(table).table.as_string(), "relation": relation.as_string(), "method": plan.method,
            "operators": plan.operators, "column": plan.defined, "built": plan.built,
            "names": [f"{_bare(table)}_{suffix}" for suffix in (_SUFFIX, *_SUFFIXES.values())],
        }  # fmt: skip
        self._as_built = [plan.built] if kind == "vector" else plan.operators
        self.type = vectors.OPERATOR_CLASSES.get(plan.built)
        self.bytes_per_row = plan.bytes_per_row
        self._statements: dict[str, Composed] = store.statements(
            table,
            "index.sql",
            index=Identifier(f"{_bare(table)}_{plan.suffix}"),
            relation=relation,
            method=SQL(plan.method),
            column=plan.column,
            operators=plan.opclass,
            dropped_at=Identifier(plan.dropped_at),
        )

    def look(self) -> Index:
        """Of vector indexes the one that INDEX_TYPE names, or else any."""
        return self._index(self.ask("find"))

    def look_for_built(self) -> Index:
        """The one that a build makes, whatever others there are."""
        return self._index(self.ask("find", operators=self._as_built))

    def others(self) -> list[str]:
        """Vector indexes of ours of another type than the one that a build makes: their names as they stand in SQL."""
        return [name for (name,) in self._connection.execute(self._statements["others"], self._facts)]

    @staticmethod
    def _index(found: tuple[Any, ...]) -> Index:
        name, definition, size, operators, valid, pid, phase, percent, tuples, dropped_at = found
        state: State = "valid" if valid else "building" if pid else "invalid" if name else "none"
        type_ = vectors.OPERATOR_CLASSES.get(operators)
        if state == "building":
            return Index(state, name, definition, size, phase, percent, tuples, pid, dropped_at, type_)
        return Index(state, name, definition, size, dropped_at=dropped_at, type=type_)

    def ask(self, statement: str, **facts: object) -> tuple[Any, ...]:
        """The one row of a statement's answer."""
        row: tuple[Any, ...] = self._connection.execute(
            self._statements[statement], {**self._facts, **facts}
        ).fetchall()[0]
        return row

    def count(self) -> int:
        """The rows of the table."""
        return int(self.ask("count")[0])

    def some(self, count: int) -> list[str]:
        """The ids of so many rows, chosen at random."""
        return [id for (id,) in self._connection.execute(self._statements["some"], {"count": count})]

    def tell(self, statement: str) -> None:
        self._connection.execute(self._statements[statement])


class _Plan(NamedTuple):
    """How an index is built, and known again whatever its name.

    It is built with the operator class `built`, and one with any of `operators` serves the queries; `defined` is its
    column as PostgreSQL writes it, None where the operator class alone tells. `bytes_per_row` is None where memory for
    all of it saves nothing to speak of.
    """

    suffix: str
    method: str
    column: Composable
    opclass: Composable
    built: str
    operators: list[str]
    dropped_at: str
    defined: str | None = None
    bytes_per_row: int | None = None


def _of_vectors(connection: psycopg.Connection[Any], settings: Settings, dimension: int) -> _Plan:
    schema = store.pgvector_schema(connection)
    type_ = vectors.index_type(settings.index_type, dimension)
    built, opclass = vectors.operator_class(type_, schema)
    column = SQL("({})").format(vectors.indexed(type_, dimension, SQL("embedding"), schema))
    size = _NODE_BYTES + vectors.bytes_in_index(type_, dimension)
    all_ = list(vectors.OPERATOR_CLASSES)
    suffix = _SUFFIX if type_ == vectors.vector_type(dimension)[0] else _SUFFIXES[type_]
    return _Plan(suffix, "hnsw", column, opclass, built, all_, "index_dropped_at", bytes_per_row=size)


def _of_words(*_: object) -> _Plan:
    column, built = SQL("({})").format(WORDS), "tsvector_ops"
    return _Plan("words", "gin", column, SQL(built), built, [built], "words_dropped_at", WORDS_AS_DEFINED)


def _of_metadata(*_: object) -> _Plan:
    """Both operator classes serve what is equal; the one that is built is the smaller."""
    column, built = "metadata", "jsonb_path_ops"
    return _Plan(column, "gin", SQL(column), SQL(built), built, [built, "jsonb_ops"], "metadata_dropped_at", column)


_PLANS: dict[Kind, Callable[[psycopg.Connection[Any], Settings, int], _Plan]] = {
    "vector": _of_vectors,
    "words": _of_words,
    "metadata": _of_metadata,
}


def _bare(table: str) -> str:
    return table.rpartition(".")[2]


def command(verb: str, kind: Kind) -> str:
    """What to type, to do something about an index of this kind."""
    return f"embedstream index {verb}" + ("" if kind == "vector" else f" --{kind}")


def as_line(index: Index, kind: Kind = "vector") -> str:
    """One line for people."""
    match index.state:
        case "valid":
            return f"{index.name} is valid, {(index.bytes or 0) / 2**20:,.0f} MiB"
        case "invalid":
            return f"{index.name} is invalid, its build ended early: {command('build', kind)}"
        case "building":
            percent = "" if index.percent is None else f", {index.percent:.0f} %"
            return f"is being built: {index.phase or 'phase not known'}{percent}"
        case "none":
            held = f", dropped by hand at {index.dropped_at:%Y-%m-%d %H:%M} UTC" if index.dropped_at else ""
            return f"none{held}"
