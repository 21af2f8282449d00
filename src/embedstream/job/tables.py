"""The job as SQL: a Kafka source, a Kafka sink for dead letters, and the statement between them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from embedstream import limits
from embedstream.kafka import java_config
from embedstream.limits import BUNDLE_SHARES, HEADER_BYTES, SHARE_BYTES, Letter, record_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedstream.settings import Settings

# Of a row that only makes a large record count for more, everything is null that could be large. RAND is never below 0:
# it keeps the planner from computing this after the function, which would hold the whole record for each such row.
_OUTCOMES = """
CREATE TEMPORARY VIEW outcomes AS
SELECT *, ingest({arguments}) AS outcome
FROM (
    SELECT
        CASE WHEN share = 'all' THEN k END AS k,
        CASE WHEN share = 'all' AND RAND() >= 0 THEN v END AS v,
        CASE WHEN share = 'all' THEN headers END AS headers,
        CASE WHEN share = 'all' THEN topic END AS topic,
        `partition`, `offset`, ts
    FROM weighed CROSS JOIN UNNEST(shares) AS parts (share)
)
"""

# A replay says how often the message was rejected before; what a producer wrote there by chance counts as nothing.
ATTEMPTS = "GREATEST(COALESCE(TRY_CAST(DECODE(headers['dlq.attempts'], 'UTF-8') AS INT), 0), 0) + CAST(1 AS BIGINT)"

_OMITTED = "'dlq.omitted', ENCODE(CONCAT_WS(',', {parts}), 'UTF-8')"


_ITEMS = "ENCODE(COALESCE(outcome.items, {job}), 'UTF-8')"


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
        "properties.max.poll.records": str(limits.poll_records(settings.max_text_bytes)),
        "properties.fetch.max.bytes": str(limits.FETCH_BYTES),
        "properties.max.partition.fetch.bytes": str(limits.PARTITION_FETCH_BYTES),
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


def weighed(letter: Letter) -> str:
    """Records, cut to a byte more than a dead letter keeps, each with one share for every SHARE_BYTES that it has.

    The shares become rows: the first carries the record, the others make it count. So a micro-batch, whose size Flink
    lets one set in rows, is bounded by bytes.
    """
    steps = [1 << power for power in range(BUNDLE_SHARES.bit_length())]
    sizes = " ".join(f"WHEN {_fits(step * SHARE_BYTES)} THEN {step - 1}" for step in steps)
    return f"""
        CREATE TEMPORARY VIEW weighed AS
        SELECT
            {_cut("k", letter.key + 1)} AS k, {_cut("v", letter.value + 1)} AS v,
            headers, topic, `partition`, `offset`, ts,
            SPLIT(CONCAT('all', REPEAT(',', CASE {sizes} ELSE {BUNDLE_SHARES - 1} END)), ',') AS shares
        FROM messages
    """  # noqa: S608


def outcomes(settings: Settings, headers: Sequence[str] = ()) -> str:
    """The function sees at most a byte more than it takes of a value, and of the headers those that it asks for.

    Each of them is a column: a map crashes vectorized functions.
    """
    value = _cut("v", record_bytes(settings.max_text_bytes) + 1)
    named = [_cut(f"headers[{quoted(name)}]", HEADER_BYTES) for name in headers]
    arguments = ["k", value, "topic", "`partition`", "`offset`", "CAST(ts AS TIMESTAMP(3))", *named]
    return _OUTCOMES.format(arguments=", ".join(arguments))


def _cut(column: str, size: int) -> str:
    return f"CAST({column} AS VARBINARY({size}))"


def _within(column: str, size: int) -> str:
    """There is no function for the length of bytes; this compares a value with itself where it is short enough."""
    return f"({column} IS NULL OR {column} = {_cut(column, size)})"


def _headers_within(size: int) -> str:
    return f"(CARDINALITY(headers) = 0 OR CHAR_LENGTH(JSON_STRING(headers)) <= {size})"


def _fits(size: int) -> str:
    return f"{_within('v', size)} AND {_within('k', size)} AND {_headers_within(size)}"


def dead_letters(settings: Settings, letter: Letter) -> str:
    """The sink keeps key, value and headers as they came; a null value stays null."""
    options = {
        "topic": settings.kafka_dead_letter_topic,
        "sink.delivery-guarantee": "at-least-once",
        "properties.max.request.size": str(letter.request),
        "properties.buffer.memory": str(letter.request + limits.MIB),
        "properties.compression.type": "lz4",
        **_both(settings),
    }
    return f"""
        CREATE TEMPORARY TABLE dead_letters (k BYTES, v BYTES, headers MAP<STRING NOT NULL, BYTES> METADATA)
        WITH ({_rendered(options)})
    """


def insert(settings: Settings, letter: Letter, origin: Origin = _UNKNOWN) -> str:
    """What was rejected goes to the dead letters, with the headers that say where it came from and why.

    What is too large for a dead letter is left out, which `dlq.omitted` then says: any combination of
    `value key headers`, joined by commas.
    """
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
    # A union with nothing new, or with the messages of the record that were rejected where others were not.
    items = f"MAP[CASE WHEN outcome.items IS NULL THEN 'dlq.job' ELSE 'dlq.items' END, {_ITEMS}]".format(
        job=quoted(settings.flink_job_name)
    )
    kept = {"value": _within("v", letter.value), "key": _within("k", letter.key)}
    kept["headers"] = _headers_within(letter.headers)
    omitted = ", ".join(f"CASE WHEN NOT {fits} THEN '{part}' END" for part, fits in kept.items())
    return f"""
        INSERT INTO dead_letters
        SELECT
            CASE WHEN {kept["key"]} THEN k END, CASE WHEN {kept["value"]} THEN v END,
            CASE
                WHEN {" AND ".join(kept.values())} THEN MAP_UNION(headers, MAP[{pairs}], {items})
                WHEN {kept["headers"]} THEN MAP_UNION(headers, MAP[{pairs}, {_OMITTED.format(parts=omitted)}], {items})
                ELSE MAP_UNION(MAP[{pairs}, {_OMITTED.format(parts=omitted)}], {items})
            END
        FROM outcomes WHERE outcome.error IS NOT NULL
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
