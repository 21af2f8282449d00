"""The schema: made where it is missing, and looked at."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from embedstream.errors import ConfigError
from embedstream.store.connection import database, trouble, without_limits
from embedstream.store.names import Names, columns, documents_of, statements
from embedstream.store.origin import keep_commit
from embedstream.store.space import check_order, check_space, keep_canary, read_space, read_terms
from embedstream.store.splitting import check_splitting, pin_splitting, read_splitting
from embedstream.store.vectors import vector_type

if TYPE_CHECKING:
    from typing import Any

    from embedstream.canary import Vectors
    from embedstream.settings import Settings
    from embedstream.space import Space

_FILES = {False: "rows.sql", True: "chunked.sql"}
# The columns that tell a relation of this version from those of earlier ones.
_NEWEST = {
    "space": {
        "index_dropped_at", "words_dropped_at", "metadata_dropped_at", "table_id", "version_by", "progress_since",
        "mapping",
    },
    "ledger": {"item"},
    "progress": {"topic_id", "cluster_id", "next", "late", "ids", "back_from", "mapped_from"},
}  # fmt: skip


def prepare(
    settings: Settings,
    space: Space,
    *,
    adopts: bool = False,
    splitting: str | None = None,
    hub_commit: str | None = None,
    canary: Vectors | None = None,
) -> None:
    """Create what is missing of the schema, and pin the table to `space` and to the order of its versions.

    With a `splitting` (`Splitter.identity`) it is a table of chunks, pinned to that, too; with a `canary` to a server
    whose revision does not say all. The commit of a model on the Hugging Face Hub is noted.

    Raises ConfigError where the table is pinned to something else (another order is taken by who `adopts` the topic
    anew), is not one of ours, or lacks what this user may not make.
    """
    vector_type(space.dimension)
    if settings.pgvector_dimension not in (None, space.dimension):
        raise ConfigError(f"PGVECTOR_DIMENSION={settings.pgvector_dimension}, but the service embeds with {space}")
    with database(settings) as connection, connection.transaction():
        without_limits(connection, local=True)
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('embedstream schema'))")
        check_encoding(connection, settings)
        check_columns(connection, settings.pgvector_table)
        pinned = read_space(connection, settings)
        check_space(connection, pinned, space, settings)
        if pinned:
            check_splitting(read_splitting(connection, settings), splitting, settings)
        if missing := lacks(connection, settings.pgvector_table, is_chunked=splitting is not None):
            _make(connection, settings, space, missing, is_chunked=splitting is not None)
        if pinned is None:
            connection.execute(statements(settings.pgvector_table)["pin_space"], (*space, settings.version_by))
            if splitting:
                pin_splitting(connection, settings, splitting)
        keep_commit(connection, settings, hub_commit)
        if canary is not None:
            keep_canary(connection, settings, canary)
        if not adopts:
            check_order(read_terms(connection, settings), settings)


def lacks(connection: psycopg.Connection[Any], table: str, *, is_chunked: bool = False) -> list[str]:
    """The relations that are missing, or of an earlier version of ours."""
    names: dict[str, Identifier] = Names.of(table)._asdict()
    if is_chunked:
        names["documents"] = documents_of(table)
    return [
        name.as_string(connection)
        for field, name in names.items()
        if not columns(connection, name).keys() >= _NEWEST.get(field, {"id"})
    ]


def check_newest(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Raises ConfigError where something is missing, or of an earlier version."""
    if missing := lacks(connection, settings.pgvector_table, is_chunked=settings.is_chunked):
        raise ConfigError(f"{', '.join(missing)}: missing, or of an earlier version: embedstream submit --replace")


def _make(
    connection: psycopg.Connection[Any], settings: Settings, space: Space, missing: list[str], *, is_chunked: bool
) -> None:
    try:
        if connection.execute("SELECT FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
            connection.execute("CREATE EXTENSION vector")
        see_pgvector(connection)
        connection.execute(_schema(settings.pgvector_table, space.dimension, is_chunked=is_chunked))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise ConfigError(
            f"PostgreSQL, as user {settings.pgvector_user}: {trouble(exc)}: submit once as the owner of the schema and "
            f"of table {settings.pgvector_table}, which makes {', '.join(missing)}, and GRANT SELECT, INSERT, UPDATE, "
            f"DELETE on them to {settings.pgvector_user}"
        ) from exc


def see_pgvector(connection: psycopg.Connection[Any]) -> None:
    """Put pgvector's schema on the search path of the transaction, where it is on nobody's."""
    connection.execute(
        "SELECT set_config('search_path',"
        " concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(nspname)), true)"
        " FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace"
        " WHERE extname = 'vector' AND to_regtype('vector') IS NULL"
    )


def pgvector_schema(connection: psycopg.Connection[Any]) -> str | None:
    """None where the extension is not there."""
    found = connection.execute(
        "SELECT nspname FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace WHERE extname = 'vector'"
    ).fetchone()
    return found[0] if found else None


def check_encoding(connection: psycopg.Connection[Any], settings: Settings) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"database {settings.pgvector_db} is in {encoding}: set PGVECTOR_DB to one in UTF8")


def check_columns(connection: psycopg.Connection[Any], table: str) -> None:
    found = columns(connection, Names.of(table).table)
    if found and (found.get("embedding") != "real[]" or not found.keys() & {"message_timestamp", "chunk_key"}):
        raise ConfigError(f"table {table} exists, but is not one of embedstream's: set PGVECTOR_TABLE to another name")


def vectors_view(table: str, dimension: int, *, is_chunked: bool = False) -> Composed:
    """What makes the view of a table."""
    text = (resources.files("embedstream.sql") / _FILES[is_chunked]).read_text(encoding="utf-8")
    _, type_ = vector_type(dimension)
    names = Names.of(table)
    return SQL(text[text.index("CREATE OR REPLACE VIEW") :]).format(
        vectors=names.vectors, table=names.table, documents=documents_of(table), vector=type_
    )


def _schema(table: str, dimension: int, *, is_chunked: bool) -> Composed:
    names: dict[str, Identifier] = {**Names.of(table)._asdict(), "documents": documents_of(table)}
    check = Identifier(f"{table.rpartition('.')[2]}_dimension")
    files = [resources.files("embedstream.sql") / name for name in ("schema.sql", _FILES[is_chunked])]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    _, type_ = vector_type(dimension)
    return SQL(text).format(**names, dimension=Literal(dimension), dimension_check=check, vector=type_)
