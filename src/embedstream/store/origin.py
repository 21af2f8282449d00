"""The commit on the Hugging Face Hub that a table's vectors are of, kept for the day when its branch has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.store.names import Names, columns, statements

if TYPE_CHECKING:
    from typing import Any

    import psycopg

    from embedstream.settings import Settings
    from embedstream.space import Space

_COLUMN = "hub_commits"


def keep_commit(connection: psycopg.Connection[Any], settings: Settings, commit: str | None) -> None:
    """Note it, unless there is one; a table of an earlier version has no place for it."""
    if commit and _COLUMN in columns(connection, Names.of(settings.pgvector_table).space):
        connection.execute(statements(settings.pgvector_table)["keep_commit"], (commit,))


def remedy(connection: psycopg.Connection[Any], settings: Settings, pinned: Space, offered: Space) -> str:
    """What to do where the service's vectors are not the table's."""
    other = "set PGVECTOR_TABLE to another table"
    commit = _commit(connection, settings) if pinned.model_name == offered.model_name else None
    if commit:
        return (
            f"set EMBEDDING_MODEL_REVISION={commit} where the service runs, the table's commit on the Hub, or {other}"
        )
    return f"start the service with the table's model, or {other}"


def _commit(connection: psycopg.Connection[Any], settings: Settings) -> str | None:
    if _COLUMN not in columns(connection, Names.of(settings.pgvector_table).space):
        return None
    row = connection.execute(statements(settings.pgvector_table)["read_commit"]).fetchone()
    commit: str | None = row[0] if row else None
    return commit
