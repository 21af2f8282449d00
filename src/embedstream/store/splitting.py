"""How the texts of a table are cut: part of what it is pinned to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.store.names import Names, columns, documents_of, statements

if TYPE_CHECKING:
    from typing import Any

    import psycopg

    from embedstream.settings import Settings


def read_splitting(connection: psycopg.Connection[Any], settings: Settings) -> str | None:
    """`Splitter.identity` of what cut the texts; None where there is no table, or a row is a whole text."""
    if "splitting" not in columns(connection, Names.of(settings.pgvector_table).space):
        return None
    row = connection.execute(_sql(settings)["read_splitting"]).fetchone()
    return str(row[0]) if row and row[0] else None


def pin_splitting(connection: psycopg.Connection[Any], settings: Settings, splitting: str) -> None:
    connection.execute(_sql(settings)["pin_splitting"], [splitting])


def check_splitting(pinned: str | None, offered: str | None, settings: Settings) -> None:
    """Of a table that is pinned to a space."""
    if pinned != offered:
        raise ConfigError(
            f"table {settings.pgvector_table} holds {_texts(pinned)}, but the pipeline has {_texts(offered)}: "
            "set the pipeline's chunks as they were, or its table to another one"
        )


def _texts(splitting: str | None) -> str:
    return f"chunks of texts ({splitting})" if splitting else "whole texts"


def _sql(settings: Settings) -> dict[str, Any]:
    table = settings.pgvector_table
    return dict(statements(table, "chunks.sql", documents=documents_of(table)))
