"""The statements of the audit, for a table of whole texts or of chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream import store

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from embedstream.settings import Settings


def statements_of(settings: Settings) -> dict[str, Composed]:
    table, documents = settings.pgvector_table, store.documents_for(settings)
    parts = store.statements(table, "stored.sql", documents=documents)
    kind = "chunks" if settings.is_chunked else "rows"
    return store.statements(
        table, "audit.sql", documents=documents, stored=parts[kind], embedded=parts[f"embedded_{kind}"]
    )
