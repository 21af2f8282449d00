"""The relations of a migration, and its SQL filled in with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg.sql import SQL, Composed, Identifier, Literal

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.migrate.state import read_beside

if TYPE_CHECKING:
    import psycopg

    from embedstream.migrate.state import Beside, Role
    from embedstream.settings import Settings
    from embedstream.space import Space

Sql: TypeAlias = "dict[str, Composed]"

OF_MODEL = ("model_name", "model_revision", "embedding_timestamp", "token_count", "truncated")
"""The columns that go with a vector."""
# PostgreSQL cuts names at 63 bytes: table, `_previous`, `_dimension`.
_LONGEST_NAME = 44


def beside(settings: Settings, role: Role) -> Settings:
    """Settings that lead to the other table, as one of its own."""
    return settings.model_copy(
        update={"pgvector_table": f"{settings.pgvector_table}_{role}", "pgvector_dimension": None}
    )


def check_name(table: str) -> None:
    if len(table.rpartition(".")[2].encode()) > _LONGEST_NAME:
        raise ConfigError(f"table {table} has too long a name for a second one beside it: {_LONGEST_NAME} bytes fit")


def named(settings: Settings, suffix: str) -> Identifier:
    *schema, name = settings.pgvector_table.split(".")
    return Identifier(*schema, f"{name}_{suffix}")


def names_of(settings: Settings, role: Role) -> dict[str, str]:
    """The relations as parameters of the statements that look into the catalogue."""
    names = store.Names.of(settings.pgvector_table)
    return {
        "table": names.table.as_string(),
        "other": named(settings, role).as_string(),
        "vectors": names.vectors.as_string(),
    }


def filled(connection: psycopg.Connection[Any], settings: Settings, role: Role, space: Space | None = None) -> Sql:
    """The statements, with `space` as that of the other table; those that write vectors need it.

    Raises ConfigError where the table has gone.
    """
    table = settings.pgvector_table
    columns, schema = _carried(connection, settings), _schema(connection, settings)
    name = table.rpartition(".")[2]
    return store.statements(
        table, "migrate.sql",
        migration=store.migration_of(table), other=named(settings, role), other_space=named(settings, f"{role}_space"),
        other_path=Identifier(schema, f"{name}_{role}"), mirror=named(settings, "mirror"),
        other_pending=Identifier(f"{name}_{role}_pending"),
        pending=Identifier(f"{name}_pending"), table_pending=named(settings, "pending"),
        new_state=Literal("cut over" if role == "next" else "copying"),
        bad_vector=store.statements(table, "stored.sql")["bad_vector"],
        columns=_list(columns), t_columns=_list(columns, "t"), o_columns=_list(columns, "o"),
        assignments=SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(each)) for each in columns[1:]),
        of_model=_list(list(OF_MODEL)),
        dimension=Literal(space.dimension if space else None),
        model_name=Literal(space.model_name if space else None),
        model_revision=Literal(space.model_revision if space else None),
        dimension_check=Identifier(f"{name}_dimension"), model_check=Identifier(store.model_check(table)),
        embedded_check=Identifier(f"{name}_embedded"), embedded_check_name=Literal(f"{name}_embedded"),
    )  # fmt: skip


def ready(connection: psycopg.Connection[Any], settings: Settings, role: Role) -> tuple[Sql, Beside]:
    """The statements of a migration that there is, and whose the other table is."""
    found = read_beside(connection, filled(connection, settings, role))
    return filled(connection, settings, role, found.space), found


def _carried(connection: psycopg.Connection[Any], settings: Settings) -> list[str]:
    """The columns that do not depend on the model; those that PostgreSQL computes it computes again."""
    query = (
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' AND attname <> ALL(%s) ORDER BY attname <> 'id', attnum"
    )
    relation = store.Names.of(settings.pgvector_table).table.as_string()
    found = [name for (name,) in connection.execute(query, [relation, ["embedding", *OF_MODEL]])]
    if not found:
        raise ConfigError(f"there is no table {settings.pgvector_table} any more")
    return found


def _schema(connection: psycopg.Connection[Any], settings: Settings) -> str:
    query = (
        "SELECT nspname FROM pg_namespace AS n JOIN pg_class AS c ON relnamespace = n.oid WHERE c.oid = to_regclass(%s)"
    )
    relation = store.Names.of(settings.pgvector_table).table.as_string()
    return str(connection.execute(query, [relation]).fetchall()[0][0])


def _list(columns: list[str], alias: str | None = None) -> Composed:
    path = (alias,) if alias else ()
    return SQL(", ").join(Identifier(*path, name) for name in columns)
