"""What a user may do with the relations of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.store.names import Names, documents_for

if TYPE_CHECKING:
    import psycopg

    from embedstream.settings import Settings

_DML = ("SELECT", "INSERT", "UPDATE", "DELETE")


def lacking_rights(connection: psycopg.Connection[Any], settings: Settings) -> list[str]:
    """What the job needs and this user has not, as `PRIVILEGE on relation`; of relations that are there."""
    names = Names.of(settings.pgvector_table)
    wanted = [(names.table, each) for each in _DML]
    if settings.is_chunked:
        wanted += [(documents_for(settings), each) for each in _DML]
    wanted += [(names.ledger, each) for each in _DML[:3]]
    wanted += [(names.progress, each) for each in _DML[:3]]
    wanted += [(names.space, "SELECT")]
    query = "SELECT has_table_privilege(to_regclass(%s), %s)"
    return [
        f"{privilege} on {name.as_string()}"
        for name, privilege in wanted
        if connection.execute(query, [name.as_string(), privilege]).fetchone() == (False,)
    ]
