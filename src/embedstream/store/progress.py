"""How far the table is in each partition of the input topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.sql import SQL, Identifier

from embedstream.store.names import Names, columns

if TYPE_CHECKING:
    import psycopg

    from embedstream.settings import Settings


class Progress(NamedTuple):
    """Of one partition: `next` is the offset after the last record whose outcome is in the table."""

    topic_id: str | None
    cluster_id: str | None
    next: int
    late: int
    ids: int
    back_to: int | None


def read_progress(connection: psycopg.Connection[Any], settings: Settings) -> dict[int, Progress]:
    """By partition of the input topic; nothing where the table has none."""
    *schema, name = settings.pgvector_table.split(".")
    relation = Identifier(*schema, f"{name}_progress")
    if not columns(connection, Names.of(settings.pgvector_table).ledger) or not columns(connection, relation):
        return {}
    query = SQL("SELECT partition, topic_id, cluster_id, next, late, ids, back_to FROM {} WHERE topic = %s")
    rows = connection.execute(query.format(relation), [settings.kafka_input_topic]).fetchall()
    return {partition: Progress(*facts) for partition, *facts in rows}
