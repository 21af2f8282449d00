"""The table that a migration keeps beside the one that is audited: whether it is the same, but for its vectors."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstream import canary, embedding, store
from embedstream.audit.chunks import Document, is_sound
from embedstream.embedding import EmbeddingClient
from embedstream.errors import EmbedstreamError
from embedstream.ingest import Embedded
from embedstream.migrate.relations import beside, ready
from embedstream.migrate.state import read
from embedstream.retry import Patience
from embedstream.splitting import splitter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from embedstream.migrate.relations import Sql
    from embedstream.migrate.state import Beside as Other
    from embedstream.settings import Settings

_LEAST_COSINE = 0.9999


class Beside(NamedTuple):
    """`pending` rows lack their vector, `uncopied` are yet to come; `wrong` are neither, and not as the table's own, or
    have a vector that is none of their text. Of a table of chunks they are documents, but for the `sampled` chunks.
    """

    table: str
    rows: int
    pending: int
    uncopied: int
    wrong: int
    sampled: int


def look(connection: psycopg.Connection[Any], settings: Settings, sample: int) -> Beside | None:
    """In the transaction of the audit; None where the table is not being migrated."""
    migration = read(connection, settings)
    if migration is None:
        return None
    sql, found = ready(connection, settings, migration.role)
    facts = {"dimension": found.space.dimension, "normalised": found.space.normalised}
    rows, pending, uncopied, wrong = connection.execute(sql["judge"], facts).fetchall()[0]
    chosen = connection.execute(sql["sample"], {"count": sample}).fetchall() if sample else []
    own = settings.model_copy(update={"embedding_service_url": found.service_url})
    if chosen:
        with EmbeddingClient(own, found.space, Patience()) as client:
            wrong += sum(not each for each in alike(client, chosen, least_cosine(lambda: own)).values())
        wrong += _badly_cut(connection, own, sql, found, sample)
    name = beside(settings, migration.role).pgvector_table + ("_documents" if found.splitting else "")
    return Beside(name, rows, pending, uncopied, wrong, len(chosen))


def _badly_cut(connection: psycopg.Connection[Any], settings: Settings, sql: Sql, found: Other, sample: int) -> int:
    """How many of some documents have other chunks than their text gives; `settings` lead to the other service."""
    splitter = splitter_of(settings, found.space)
    store.check_splitting(found.splitting, splitter.identity if splitter else None, settings)
    if splitter is None:
        return 0
    documents = connection.execute(sql["read_documents"], {"count": sample}).fetchall()
    return sum(not is_sound(Document(*facts), splitter) for _, *facts in documents)


def alike(
    client: EmbeddingClient, rows: Sequence[tuple[str, str, list[float]]], least: float = _LEAST_COSINE
) -> dict[str, bool]:
    """By id, whether the vector of each row (id, text, vector) is the one that the service gives for its text."""
    found: dict[str, bool] = {}
    for at, result in (pair for part in client.embed([text for _, text, _ in rows]) for pair in part):
        id, _, vector = rows[at]
        found[id] = found.get(id, True) and _is_alike(vector, result, least)
    return found


def least_cosine(find: Callable[[], Settings]) -> float:
    """Of two vectors of one text by the service that settings lead to: those of a remote server wobble more."""
    with suppress(EmbedstreamError):
        if embedding.read_remote(find()) is not None:
            return canary.LEAST_COSINE
    return _LEAST_COSINE


def _is_alike(stored: list[float], result: object, least: float) -> bool:
    if not isinstance(result, Embedded):
        return False
    ours, theirs = np.array(stored, np.float64), result.vector.astype(np.float64)
    return bool(ours @ theirs >= least * np.linalg.norm(ours) * np.linalg.norm(theirs))
