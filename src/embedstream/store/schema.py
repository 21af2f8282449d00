"""The schema: made where it is missing, and looked at."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from psycopg.sql import SQL, Composed, Identifier, Literal

from embedstream.errors import ConfigError
from embedstream.store.connection import database
from embedstream.store.names import Names, columns, statements
from embedstream.store.space import check_space, read_space

if TYPE_CHECKING:
    from typing import Any

    import psycopg

    from embedstream.settings import Settings
    from embedstream.space import Space

# The largest dimensions that pgvector's HNSW takes, and the type that it takes them in.
_TYPES = {2000: "vector", 4000: "halfvec"}


def prepare(settings: Settings, space: Space) -> None:
    """Create what is missing of the schema, and pin the table to `space`.

    Raises ConfigError where the table is pinned to another space, or is not one of ours.
    """
    vector_type(space.dimension)
    if settings.pgvector_dimension not in (None, space.dimension):
        raise ConfigError(f"PGVECTOR_DIMENSION={settings.pgvector_dimension}, but the service embeds with {space}")
    with database(settings) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('embedstream schema'))")
        check_encoding(connection, settings)
        check_columns(connection, settings.pgvector_table)
        check_space(read_space(connection, settings), space, settings)
        connection.execute(_schema(settings.pgvector_table, space.dimension))
        connection.execute(statements(settings.pgvector_table)["pin_space"], space)


def check_encoding(connection: psycopg.Connection[Any], settings: Settings) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"database {settings.pgvector_db} is in {encoding}: set PGVECTOR_DB to one in UTF8")


def check_columns(connection: psycopg.Connection[Any], table: str) -> None:
    found = columns(connection, Names.of(table).table)
    if found and (found.get("embedding") != "real[]" or "message_timestamp" not in found):
        raise ConfigError(f"table {table} exists, but is not one of embedstream's: set PGVECTOR_TABLE to another name")


def vector_type(dimension: int) -> tuple[str, Composed]:
    """The type of the view's column and of the index: its name, and with the dimension, as it stands in SQL.

    Raises ConfigError for more dimensions than pgvector can index.
    """
    for largest, name in _TYPES.items():
        if dimension <= largest:
            return name, SQL("{}({})").format(Identifier(name), Literal(dimension))
    raise ConfigError(f"{dimension} are more than the {max(_TYPES)} dimensions that pgvector can index")


def _schema(table: str, dimension: int) -> Composed:
    names = Names.of(table)
    check = Identifier(f"{table.rpartition('.')[2]}_dimension")
    text = resources.files("embedstream.sql").joinpath("schema.sql").read_text(encoding="utf-8")
    _, type_ = vector_type(dimension)
    return SQL(text).format(**names._asdict(), dimension=Literal(dimension), dimension_check=check, vector=type_)
