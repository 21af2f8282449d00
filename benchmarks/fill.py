"""Tables that are large already: synthetic rows, made by PostgreSQL itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.sql import SQL, Composed, Identifier, Literal

from embedstream import embedding, store

if TYPE_CHECKING:
    import psycopg

    from embedstream.settings import Settings

POOL = 1000
"""So many vectors are drawn; each row has another sum of two of them, or an index would find it too easy."""

_FILL = (
    """
    CREATE TEMPORARY TABLE pool AS
    SELECT number, array_agg((random() - 0.5)::real)::vector AS vector
    FROM generate_series(0, {pool} - 1) AS number, generate_series(1, {dimension})
    GROUP BY number
    """,
    """
    INSERT INTO {ledger} (id, event_time, topic, partition, "offset", state, content_hash)
    SELECT md5(n::text), now(), 'elsewhere', 0, n, 'live', sha256(n::text::bytea) FROM generate_series(1, {rows}) AS n
    """,
    """
    INSERT INTO {table} (id, text, embedding, model_name, model_revision, message_timestamp, embedding_timestamp,
        metadata, token_count, truncated)
    SELECT md5(n::text), repeat(md5(n::text), 8), (a.vector + b.vector)::real[], 'synthetic', '1', now(), now(), '{{}}',
        63, false
    FROM generate_series(1, {rows}) AS n
    JOIN pool AS a ON a.number = n % {pool} JOIN pool AS b ON b.number = n / {pool} % {pool}
    """,
    "DROP TABLE pool",
    "VACUUM ANALYZE {ledger}, {table}",
)


def make_table(settings: Settings, rows: int) -> None:
    """The table of these settings, for the space of their service, with so many rows and their ledger."""
    space = embedding.read_space(settings)
    store.prepare(settings, space)
    names = store.Names.of(settings.pgvector_table)._asdict()
    numbers = {"rows": Literal(rows), "pool": Literal(POOL), "dimension": Literal(space.dimension)}
    with store.connect(settings) as connection:
        for statement in _FILL:
            connection.execute(SQL(statement).format(**names, **numbers))


class Shelf:
    """Puts one of several filled tables in the place of the job's own, under the running job.

    A prepared statement finds its tables by name again once one of them was renamed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._out: Settings | None = None

    def put(self, chosen: Settings) -> None:
        if chosen == self._out:
            return
        with store.connect(self._settings) as connection, connection.transaction():
            if self._out is None:
                self._rename(connection, self._settings.pgvector_table, f"{self._settings.pgvector_table}_unused")
            else:
                self._rename(connection, self._settings.pgvector_table, self._out.pgvector_table)
            self._rename(connection, chosen.pgvector_table, self._settings.pgvector_table)
        self._out = chosen

    @staticmethod
    def _rename(connection: psycopg.Connection[Any], old: str, new: str) -> None:
        for before, after in ((old, new), (f"{old}_ledger", f"{new}_ledger")):
            connection.execute(_renaming(before, after))


def _renaming(before: str, after: str) -> Composed:
    return SQL("ALTER TABLE {} RENAME TO {}").format(Identifier(before), Identifier(after))
