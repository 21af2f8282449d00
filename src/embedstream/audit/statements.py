"""The statements of the audit, for a table of whole texts or of chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.sql import SQL

from embedstream import store

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

    from embedstream.settings import Settings


def statements_of(settings: Settings) -> dict[str, Composed]:
    names = store.Names.of(settings.pgvector_table)
    return _filled(settings, table=names.table, ledger=names.ledger, documents=store.documents_for(settings))


def narrowed_statements(settings: Settings) -> dict[str, Composed]:
    """They see nothing but the ids in the parameter `ids`."""
    names = store.Names.of(settings.pgvector_table)
    relations = {"table": names.table, "ledger": names.ledger, "documents": store.documents_for(settings)}
    narrow = SQL("(SELECT * FROM {} WHERE id = ANY(%(ids)s))")
    return _filled(settings, **{name: narrow.format(relation) for name, relation in relations.items()})


def _filled(settings: Settings, **relations: Composable) -> dict[str, Composed]:
    table = settings.pgvector_table
    parts = store.statements(table, "stored.sql", **relations)
    kind = "chunks" if settings.is_chunked else "rows"
    return store.statements(table, "audit.sql", stored=parts[kind], embedded=parts[f"embedded_{kind}"], **relations)
