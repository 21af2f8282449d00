"""The table's progress as a test wants it."""

from psycopg.sql import SQL, Identifier

from embedstream import kafka, store


def record_progress(settings, partition, stands=0, late=0, back_to=None, **identity):
    """Say that the table has all of a partition before `stands`; of the broker's own topic unless told otherwise."""
    ids = kafka.identity(settings)._asdict() | identity
    table = Identifier(f"{settings.pgvector_table}_progress")
    with store.connect(settings) as connection:
        connection.execute(
            SQL(
                "CREATE TABLE IF NOT EXISTS {} (topic text, partition int, topic_id text, cluster_id text, next bigint,"
                " late bigint, ids bigint, back_to bigint, PRIMARY KEY (topic, partition))"
            ).format(table)
        )
        connection.execute(
            SQL(
                "INSERT INTO {} (topic, partition, topic_id, cluster_id, next, late, ids, back_to)"
                " VALUES (%s, %s, %s, %s, %s, %s, 0, %s) ON CONFLICT (topic, partition) DO UPDATE SET"
                " topic_id = excluded.topic_id, cluster_id = excluded.cluster_id, next = excluded.next,"
                " late = excluded.late, back_to = excluded.back_to"
            ).format(table),
            [settings.kafka_input_topic, partition, ids["topic_id"], ids["cluster_id"], stands, late, back_to],
        )
