"""The job as SQL: a Kafka source, a Kafka sink for dead letters, and the statement between them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from embedstream.kafka import LARGEST_DEAD_LETTER, java_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstream.settings import Settings

INGEST = """
CREATE TEMPORARY VIEW outcomes AS
SELECT *, ingest(k, v, topic, `partition`, `offset`, CAST(ts AS TIMESTAMP(3))) AS outcome FROM messages
"""

# A replay says how often the message was rejected before; what a producer wrote there by chance counts as nothing.
ATTEMPTS = "GREATEST(COALESCE(TRY_CAST(DECODE(headers['dlq.attempts'], 'UTF-8') AS INT), 0), 0) + CAST(1 AS BIGINT)"


class Origin(NamedTuple):
    """The first offset to read of each partition, and the id of the topic; what is not named is read from its start."""

    starts: Mapping[int, int] = MappingProxyType({})
    topic_id: str | None = None


_UNKNOWN = Origin()


def source(settings: Settings, origin: Origin = _UNKNOWN) -> str:
    """Raw records with their coordinates; partitions that come later are read from their first record on.

    Offsets are named one by one: others may commit in the group while the job starts.
    """
    options = {
        "topic": settings.kafka_input_topic,
        "properties.group.id": settings.kafka_group_id,
        "properties.auto.offset.reset": "earliest",
        # Records of an aborted transaction were never sent.
        "properties.isolation.level": "read_committed",
        **_startup(origin),
        "scan.topic-partition-discovery.interval": "30 s",
        **_both(settings),
    }
    return f"""
        CREATE TEMPORARY TABLE messages (
            k BYTES, v BYTES,
            topic STRING NOT NULL METADATA VIRTUAL,
            `partition` INT NOT NULL METADATA VIRTUAL,
            `offset` BIGINT NOT NULL METADATA VIRTUAL,
            ts TIMESTAMP_LTZ(3) NOT NULL METADATA FROM 'timestamp' VIRTUAL,
            headers MAP<STRING NOT NULL, BYTES> METADATA VIRTUAL
        ) WITH ({_rendered(options)})
    """


def _startup(origin: Origin) -> dict[str, str]:
    if not origin.starts:
        return {"scan.startup.mode": "group-offsets"}
    offsets = ";".join(f"partition:{partition},offset:{offset}" for partition, offset in origin.starts.items())
    return {"scan.startup.mode": "specific-offsets", "scan.startup.specific-offsets": offsets}


def dead_letters(settings: Settings) -> str:
    """The sink keeps key, value and headers as they came; a null value stays null."""
    options = {
        "topic": settings.kafka_dead_letter_topic,
        "sink.delivery-guarantee": "at-least-once",
        "properties.max.request.size": str(LARGEST_DEAD_LETTER),
        "properties.buffer.memory": str(2 * LARGEST_DEAD_LETTER),
        "properties.compression.type": "lz4",
        **_both(settings),
    }
    return f"""
        CREATE TEMPORARY TABLE dead_letters (k BYTES, v BYTES, headers MAP<STRING NOT NULL, BYTES> METADATA)
        WITH ({_rendered(options)})
    """


def insert(settings: Settings, origin: Origin = _UNKNOWN) -> str:
    """What was rejected goes to the dead letters, with the headers that say where it came from and why."""
    headers = {
        "topic": "topic",
        "partition": "CAST(`partition` AS STRING)",
        "offset": "CAST(`offset` AS STRING)",
        "timestamp": _iso("ts"),
        "stage": "outcome.stage",
        "error": "outcome.error",
        "reason": "outcome.reason",
        "attempts": f"CAST({ATTEMPTS} AS STRING)",
        "job": quoted(settings.flink_job_name),
        "at": _iso("CURRENT_TIMESTAMP"),
        **({"topic_id": quoted(origin.topic_id)} if origin.topic_id else {}),
    }
    pairs = ", ".join(f"'dlq.{name}', ENCODE({value}, 'UTF-8')" for name, value in headers.items())
    return f"""
        INSERT INTO dead_letters
        SELECT k, v, MAP_UNION(headers, MAP[{pairs}]) FROM outcomes WHERE outcome.error IS NOT NULL
    """  # noqa: S608


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _iso(moment: str) -> str:
    return f"DATE_FORMAT({moment}, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')"


def _rendered(options: dict[str, str]) -> str:
    return ", ".join(f"{quoted(name)} = {quoted(value)}" for name, value in options.items())


def _both(settings: Settings) -> dict[str, str]:
    return {
        "connector": "kafka",
        "properties.bootstrap.servers": settings.kafka_bootstrap_servers,
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        **_security(settings),
    }


def _security(settings: Settings) -> dict[str, str]:
    """The options for TLS and SASL; the web UI shows them, so secrets are references."""
    return {f"properties.{name}": value for name, value in java_config(settings).items()}
