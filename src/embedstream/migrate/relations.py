"""The relations of a migration, and its SQL filled in with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from psycopg.sql import SQL, Composed, Identifier, Literal

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.migrate.state import read_beside

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg
    from psycopg.sql import Composable

    from embedstream.migrate.state import Beside, Role
    from embedstream.settings import Settings
    from embedstream.space import Space

Sql: TypeAlias = "dict[str, Composed]"

_OF_SPACE = ("model_name", "model_revision", "dimension", "normalised", "max_tokens", "service_url", "canary")


class Layout(NamedTuple):
    """What a table has a row for each id of, where that may lack what a model makes of it.

    `lacking` is the column that is null then, `of_model` are the others that depend on the model, `texts` the id and
    what the model's part follows from, `of_space` what goes with a space. `longest_name` is in bytes: PostgreSQL cuts
    names at 63.
    """

    unit: str
    vector: str
    file: str
    lacking: str
    of_model: tuple[str, ...]
    texts: tuple[str, ...]
    of_space: tuple[str, ...]
    longest_name: int

    @property
    def is_chunked(self) -> bool:
        return "splitting" in self.of_space


ROWS = Layout(
    "rows", "vector", "migrate_rows.sql", "embedding",
    ("model_name", "model_revision", "embedding_timestamp", "token_count", "truncated"), ("id", "text"), _OF_SPACE,
    63 - len("_previous" "_dimension"),
)  # fmt: skip
DOCUMENTS = Layout(
    "documents", "vectors", "migrate_chunks.sql", "chunks", ("unseen",), ("id", "text", "prefix"),
    (*_OF_SPACE, "splitting"), 63 - len("_previous" "_documents" "_pending"),
)  # fmt: skip


class Pair(NamedTuple):
    """A relation of the table, and the one that is to it what the other table is to the table."""

    own: Identifier
    other: Identifier


def layout_of(connection: psycopg.Connection[Any], settings: Settings) -> Layout:
    return DOCUMENTS if store.read_splitting(connection, settings) is not None else ROWS


def turned(role: Role) -> Role:
    """What the table of the name is to the other one, once that has taken the name."""
    return "previous" if role == "next" else "next"


def pairs_of(layout: Layout, settings: Settings, role: Role) -> list[Pair]:
    """First the tables, last what has a row for each id."""
    table, other = settings.pgvector_table, beside(settings, role).pgvector_table
    pairs = [Pair(store.Names.of(table).table, store.Names.of(other).table)]
    if layout.is_chunked:
        pairs.append(Pair(store.documents_of(table), store.documents_of(other)))
    return pairs


def beside(settings: Settings, role: Role) -> Settings:
    """Settings that lead to the other table, as one of its own."""
    return settings.model_copy(
        update={"pgvector_table": f"{settings.pgvector_table}_{role}", "pgvector_dimension": None}
    )


def check_name(table: str, layout: Layout) -> None:
    if len(table.rpartition(".")[2].encode()) > layout.longest_name:
        raise ConfigError(
            f"table {table} has too long a name for a second one beside it: {layout.longest_name} bytes fit"
        )


def named(settings: Settings, suffix: str) -> Identifier:
    *schema, name = settings.pgvector_table.split(".")
    return Identifier(*schema, f"{name}_{suffix}")


def filled(connection: psycopg.Connection[Any], settings: Settings, role: Role, space: Space | None = None) -> Sql:
    """The statements, with `space` as that of the other table; those that write vectors need it.

    Raises ConfigError where the table has gone.
    """
    table, layout = settings.pgvector_table, layout_of(connection, settings)
    parts = {
        **_relations(connection, settings, layout, role),
        **_columns(connection, settings, layout),
        **_space(space),
    }
    parts["bad_vector"] = store.statements(table, "stored.sql")["bad_vector"]
    of_layout = store.statements(table, layout.file, **parts)
    found = store.statements(table, "migrate.sql", **parts, **of_layout) | of_layout
    if layout.is_chunked:
        other = beside(settings, role).pgvector_table
        chunks = store.statements(other, "chunks.sql", documents=store.documents_of(other))
        found |= {name: chunks[name] for name in ("drop", "add", "move")}
    return found


def ready(connection: psycopg.Connection[Any], settings: Settings, role: Role) -> tuple[Sql, Beside]:
    """The statements of a migration that there is, and whose the other table is."""
    found = read_beside(connection, filled(connection, settings, role))
    return filled(connection, settings, role, found.space), found


def _relations(
    connection: psycopg.Connection[Any], settings: Settings, layout: Layout, role: Role
) -> dict[str, Composable]:
    *path, name = settings.pgvector_table.split(".")
    pairs = pairs_of(layout, settings, role)
    documents = "_documents" if layout.is_chunked else ""
    schema, pending = _schema(connection, pairs[0].own), f"{name}{documents}_pending"
    return {
        "migration": store.migration_of(settings.pgvector_table), "mirror": named(settings, "mirror"),
        "documents": pairs[-1].own, "other": pairs[0].other, "other_documents": pairs[-1].other,
        "others": SQL(", ").join(each.other for each in pairs), "other_space": named(settings, f"{role}_space"),
        "other_path": Identifier(schema, f"{name}_{role}"),
        "other_documents_path": Identifier(schema, f"{name}_{role}{documents}"),
        "pending": Identifier(pending), "table_pending": Identifier(*path, pending),
        "other_pending": Identifier(f"{name}_{role}{documents}_pending"),
        "new_state": Literal("cut over" if role == "next" else "copying"),
        "dimension_check": Identifier(f"{name}_dimension"),
        "model_check": Identifier(store.model_check(settings.pgvector_table)),
        "embedded_check": Identifier(f"{name}_embedded"), "embedded_check_name": Literal(f"{name}_embedded"),
    }  # fmt: skip


def _columns(connection: psycopg.Connection[Any], settings: Settings, layout: Layout) -> dict[str, Composable]:
    carried = _carried(connection, pairs_of(layout, settings, "next")[-1].own, layout)
    return {
        "columns": _list(carried), "t_columns": _list(carried, "t"), "o_columns": _list(carried, "o"),
        "assignments": SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(each)) for each in carried[1:]),
        "of_model": _list(layout.of_model), "texts": _list(layout.texts), "lacking": Identifier(layout.lacking),
        "of_space": _list(layout.of_space), "splitting": SQL("splitting" if layout.is_chunked else "NULL"),
    }  # fmt: skip


def _space(space: Space | None) -> dict[str, Composable]:
    return {
        "dimension": Literal(space.dimension if space else None),
        "model_name": Literal(space.model_name if space else None),
        "model_revision": Literal(space.model_revision if space else None),
    }


def _carried(connection: psycopg.Connection[Any], relation: Identifier, layout: Layout) -> list[str]:
    """The columns that do not depend on the model; those that PostgreSQL computes it computes again."""
    query = (
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' AND attname <> ALL(%s) ORDER BY attname <> 'id', attnum"
    )
    parameters = [relation.as_string(), [layout.lacking, *layout.of_model]]
    found = [name for (name,) in connection.execute(query, parameters)]
    if not found:
        raise _gone(relation)
    return found


def _schema(connection: psycopg.Connection[Any], relation: Identifier) -> str:
    query = (
        "SELECT nspname FROM pg_namespace AS n JOIN pg_class AS c ON relnamespace = n.oid WHERE c.oid = to_regclass(%s)"
    )
    row = connection.execute(query, [relation.as_string()]).fetchone()
    if row is None:
        raise _gone(relation)
    return str(row[0])


def _gone(relation: Identifier) -> ConfigError:
    return ConfigError(f"there is no table {relation.as_string()} any more")


def _list(columns: Iterable[str], alias: str | None = None) -> Composed:
    path = (alias,) if alias else ()
    return SQL(", ").join(Identifier(*path, name) for name in columns)
