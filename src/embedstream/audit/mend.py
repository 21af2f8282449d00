"""Repair: records are sent again through the ordinary path, and what nothing explains is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream import kafka, store
from embedstream.audit import records
from embedstream.audit.report import Repair
from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psycopg
    from confluent_kafka import Message
    from psycopg.sql import Composed

    from embedstream.settings import Settings

_FEW = 10


def mend(
    settings: Settings, connection: psycopg.Connection[Any], sql: Mapping[str, Composed], *, dry_run: bool
) -> Repair:
    """Work through the table `verdicts` that an audit left behind.

    Raises ConfigError where the topic explains less than half of the ledger: then it is likely to be another topic.
    """
    connection.execute(sql["create_repairs"])
    with connection.transaction():
        if not dry_run:
            connection.execute("SET LOCAL lock_timeout = '30s'")
            connection.execute(sql["lock"])
        connection.execute(sql["drop_moved"])
        plan = connection.execute(sql["plan"], {"topic": settings.kafka_input_topic}).fetchall()
        resent, rows, orphans, left, ledger = plan[0]
        repair = Repair(resent, rows, orphans, left, dry_run)
        if dry_run:
            return repair
        if repair.removed_orphans > max(_FEW, ledger // 2):
            raise ConfigError(
                f"topic {settings.kafka_input_topic} does not explain {repair.removed_orphans} of {ledger} ids: "
                "nothing is repaired; check KAFKA_INPUT_TOPIC and KAFKA_BOOTSTRAP_SERVERS"
            )
        connection.execute(sql["remove_rows"])
        connection.execute(sql["remove_documents"])
        connection.execute(sql["remove_ledgers"])
        store.recount(connection, settings)
    return repair._replace(resent=_resend(settings, connection, sql))


def _resend(settings: Settings, connection: psycopg.Connection[Any], sql: Mapping[str, Composed]) -> int:
    """To their own partitions: there a copy has a larger offset, so that it counts as newer than what it repairs."""
    topic = settings.kafka_input_topic
    with connection.transaction(), connection.cursor(name="targets") as cursor:
        cursor.execute(sql["targets"])
        return kafka.produce(settings, topic, map(_outgoing, records.fetch(settings, topic, _places(cursor))))


def _places(cursor: psycopg.ServerCursor[Any]) -> Iterator[tuple[int, int]]:
    yield from cursor


def _outgoing(message: Message) -> Outgoing:
    kind, timestamp = message.timestamp()
    headers: Any = message.headers()
    return Outgoing(message.value(), message.key(), headers, timestamp if kind else None, message.partition())
