"""The table's progress as a test wants it."""

from psycopg.sql import SQL

from embedstream import kafka, store


def record_progress(settings, partition, stands=0, late=0, back_from=None, **identity):
    """Say that the table has all of a partition before `stands`; of the broker's own topic unless told otherwise."""
    ids = kafka.identity(settings)._asdict() | identity
    with store.connect(settings) as connection:
        connection.execute(
            SQL(
                "INSERT INTO {} (topic, partition, topic_id, cluster_id, next, late, back_from)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (topic, partition) DO UPDATE SET"
                " topic_id = excluded.topic_id, cluster_id = excluded.cluster_id, next = excluded.next,"
                " late = excluded.late, back_from = excluded.back_from"
            ).format(store.Names.of(settings.pgvector_table).progress),
            [settings.kafka_input_topic, partition, ids["topic_id"], ids["cluster_id"], stands, late, back_from],
        )


def forget_progress(settings):
    """As a table of a version that kept none."""
    with store.connect(settings) as connection:
        connection.execute(SQL("DELETE FROM {}").format(store.Names.of(settings.pgvector_table).progress))
