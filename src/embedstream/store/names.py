"""The relations that belong to one table, and the SQL that is filled in with their names."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple, Self

from psycopg.sql import SQL, Composed, Identifier, Literal

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, LiteralString

    import psycopg
    from psycopg.sql import Composable

    from embedstream.settings import Settings

# PostgreSQL cuts names at 63 bytes; the longest suffix of ours is `_dimension`.
_LONGEST_NAME = 53


class Names(NamedTuple):
    """The relations that belong to one table, each with the schema where it was given."""

    table: Identifier
    ledger: Identifier
    space: Identifier
    progress: Identifier
    vectors: Identifier

    @classmethod
    def of(cls, table: str) -> Self:
        """The view of `text_message_embeddings` is `text_message_vectors`, that of another table `<table>_vectors`.

        Raises ConfigError for anything but `table` or `schema.table`, and for a name that leaves no room for suffixes.
        """
        *schema, name = table.split(".")
        if len(schema) > 1 or not all([name, *schema]):
            raise ConfigError(f"PGVECTOR_TABLE={table!r}: write table, or schema.table")
        if len(name.encode()) > _LONGEST_NAME:
            raise ConfigError(f"PGVECTOR_TABLE={table!r}: take another name, of at most {_LONGEST_NAME} bytes")
        stem = "text_message" if name == "text_message_embeddings" else name
        suffixed = (name, f"{name}_ledger", f"{name}_space", f"{name}_progress", f"{stem}_vectors")
        return cls(*(Identifier(*schema, each) for each in suffixed))


def documents_of(table: str) -> Identifier:
    """The relation that a table of chunks has a row for each document in."""
    *schema, name = table.split(".")
    return Identifier(*schema, f"{name}_documents")


def migration_of(table: str) -> Identifier:
    """The relation that says how far a table is on its way to another space; there while it is."""
    *schema, name = table.split(".")
    return Identifier(*schema, f"{name}_migration")


def model_check(table: str) -> str:
    """The constraint that keeps vectors of another model out; among the table's own it is the first to be looked at."""
    return f"{table.rpartition('.')[2]}_by_model"


def documents_for(settings: Settings) -> Identifier:
    """What has a row for each id of the table."""
    table = settings.pgvector_table
    return documents_of(table) if settings.is_chunked else Names.of(table).table


def statements(table: str, file: str = "statements.sql", /, **others: Composable) -> dict[str, Composed]:
    """The statements of a file in sql/ by name, filled in for `table` and with `others`.

    One may stand in those behind it under its name, unless `others` has that. `documents` is what has a row for each
    id: the table itself, unless it holds chunks (see `documents_for`). `others` may stand in for a relation, too.
    """
    names = Names.of(table)._asdict()
    literals = {
        "table_name": Literal(names["table"].as_string()),
        "migration_name": Literal(migration_of(table).as_string()),
    }
    filled = {**names, **literals, "documents": names["table"], **others}
    found: dict[str, Composed] = {}
    for name, body in _bodies(file):
        found[name] = SQL(body).format(**{**found, **filled})
    return found


@cache
def _bodies(file: str) -> Sequence[tuple[str, LiteralString]]:
    text = resources.files("embedstream.sql").joinpath(file).read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return list(zip(parts[::2], parts[1::2], strict=True))


def columns(connection: psycopg.Connection[Any], relation: Identifier) -> dict[str, str]:
    """The types of a relation's columns by name; nothing where there is no such relation."""
    query = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    )
    return dict(connection.execute(query, [relation.as_string(connection)]).fetchall())
