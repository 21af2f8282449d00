"""The space that a table is pinned to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.space import Space
from embedstream.store.names import Names, columns, statements

if TYPE_CHECKING:
    from typing import Any

    import psycopg

    from embedstream.settings import Settings


def read_space(connection: psycopg.Connection[Any], settings: Settings) -> Space | None:
    """The space that the table is pinned to; None where no job was ever submitted for it."""
    if not columns(connection, Names.of(settings.pgvector_table).space):
        return None
    row = connection.execute(statements(settings.pgvector_table)["read_space"]).fetchone()
    return Space(*row) if row else None


def pinned_space(connection: psycopg.Connection[Any], settings: Settings) -> Space:
    """As `read_space`; raises ConfigError where there is no table."""
    space = read_space(connection, settings)
    if space is None:
        raise ConfigError(f"there is no table {settings.pgvector_table} yet: embedstream submit makes it")
    return space


def check_space(pinned: Space | None, offered: Space, settings: Settings) -> None:
    if pinned not in (None, offered):
        raise ConfigError(
            f"table {settings.pgvector_table} holds vectors of {pinned}, but the service embeds with {offered}: "
            "start the service with the table's model, or set PGVECTOR_TABLE to another table"
        )
