"""Record tests/data/envelopes/debezium-*.json: what Debezium makes of the same changes under several settings.

Run it as `.venv/bin/python tests/data/record_debezium.py`, and read the difference before you commit it.
"""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from confluent_kafka import Consumer, TopicPartition

from embedstream.jars import cache_directory, locked_jars
from embedstream.local.connect import Connect, keep
from embedstream.local.kafka import Kafka
from embedstream.local.part import running
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.local.postgres import SUPERUSER, Postgres
from embedstream.settings import load_settings

TARGET = Path(__file__).parent / "envelopes"
JSON = "org.apache.kafka.connect.json.JsonConverter"
UNWRAP = {"transforms": "unwrap", "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState"}
VARIANTS = {
    "plain": {"skipped.operations": "none"},
    "schemas": {f"{part}.converter{rest}": value for part in ("key", "value")
                for rest, value in {"": JSON, ".schemas.enable": "true"}.items()},
    "unwrap": UNWRAP,
    "unwrap_rewrite": UNWRAP | {"transforms.unwrap.delete.tombstone.handling.mode": "rewrite",
                                "transforms.unwrap.add.fields": "op,source.ts_ms,lsn"},
    "connect_times_string_decimals": {"time.precision.mode": "connect", "decimal.handling.mode": "string"},
    "isostring_times_double_decimals": {"time.precision.mode": "isostring", "decimal.handling.mode": "double"},
    "nanosecond_times": {"time.precision.mode": "nanoseconds"},
    "adaptive_time_microseconds": {"time.precision.mode": "adaptive_time_microseconds"},
}  # fmt: skip
ALL = "shop.articles,shop.whole,shop.pairs,shop.marks"
OF_TYPES = ("snapshot", "create")
"""The steps that are kept of the variants that differ in the types of columns alone."""

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.articles (
    id bigint PRIMARY KEY, title text, body text, lang text, price numeric(10, 2), any_num numeric,
    updated_at timestamptz, made_at timestamp, day date, tm time, flags jsonb, raw bytea, tags text[]
);
CREATE TABLE shop.whole (id bigint PRIMARY KEY, title text, body text);
ALTER TABLE shop.whole REPLICA IDENTITY FULL;
CREATE TABLE shop.marks (step int PRIMARY KEY);
CREATE TABLE shop.pairs (ticket int, comment text, body text, PRIMARY KEY (ticket, comment));
-- Uncompressed, a text need not be as long to be stored apart from its row.
ALTER TABLE shop.articles ALTER body SET STORAGE EXTERNAL;
ALTER TABLE shop.whole ALTER body SET STORAGE EXTERNAL;
"""
ROW = (
    "INSERT INTO shop.articles VALUES ({id}, 'first title', {body}, 'en', 12.34, 0.000000005,"
    " '2026-01-02 03:04:05.123456+02', '2026-01-02 03:04:05.123456', '2026-01-02', '03:04:05.5',"
    """ '{{"a": 1}}', '\\x00ff', '{{one,two}}')"""
)
LONG = "repeat('A sentence that is long enough. ', 100)"
STEPS = {
    "create": ROW.format(id=2, body=LONG),
    "update_with_unchanged_body": "UPDATE shop.articles SET title = 'second title' WHERE id = 2",
    "update_body": "UPDATE shop.articles SET body = 'a new body' WHERE id = 1",
    "delete": "DELETE FROM shop.articles WHERE id = 1",
    "key_change": "UPDATE shop.articles SET id = 3 WHERE id = 2",
    "whole_create": f"INSERT INTO shop.whole VALUES (1, 'first title', {LONG})",
    "whole_update_with_unchanged_body": "UPDATE shop.whole SET title = 'second title'",
    "whole_key_change": "UPDATE shop.whole SET id = 2",
    "whole_delete": "DELETE FROM shop.whole",
    "pair_create": "INSERT INTO shop.pairs VALUES (7, 'c1', 'a comment')",
    "pair_delete": "DELETE FROM shop.pairs",
    "truncate": "TRUNCATE shop.articles",
}
SETTLING_SECONDS = 1.0
PATIENCE_SECONDS = 120.0


def main() -> None:
    with TemporaryDirectory() as directory, ExitStack() as stack:
        recorder = _start(Path(directory), stack)
        recorder.record("snapshot")
        for number, (step, statement) in enumerate(STEPS.items(), 1):
            recorder.connection.execute(statement)
            recorder.connection.execute("INSERT INTO shop.marks VALUES (%s)", [number])
            recorder.wait_for_marks(number)
            recorder.record(step)
        recorder.write()


def _start(directory, stack):
    ports = [free_port(), free_port(), free_port(), free_port()]
    settings = load_settings(
        pgvector_host=LOOPBACK, pgvector_port=ports[0], pgvector_user=SUPERUSER, pgvector_sslmode="disable",
        kafka_bootstrap_servers=f"{LOOPBACK}:{ports[1]}", flink_parallelism=1,
    )  # fmt: skip
    cache, database = cache_directory(settings), settings.pgvector_db
    postgres, connect = directory / "postgres", directory / "connect"
    stack.enter_context(running(Postgres(postgres, ports[0], database, directory / "postgres.log", is_source=True)))
    stack.enter_context(running(Kafka(directory / "kafka", ports[1], ports[2], cache, directory / "kafka.log")))
    connection = stack.enter_context(
        psycopg.connect(host=LOOPBACK, port=ports[0], user=SUPERUSER, dbname=database, autocommit=True)
    )
    connection.execute(TABLES)
    connection.execute(ROW.format(id=1, body="'a body'"))
    keep([_connector(directory, *variant) for variant in VARIANTS.items()], connect)
    stack.enter_context(running(Connect(connect, settings, ports[3], cache, directory / "connect.log")))
    recorder = Recorder(connection, settings.kafka_bootstrap_servers)
    stack.callback(recorder.consumer.close)
    recorder.wait_for_snapshots()
    return recorder


def _connector(directory, name, properties):
    path = directory / f"{name}.properties"
    common = {
        "topic.prefix": name, "table.include.list": ALL, "slot.name": name, "publication.name": name,
        "heartbeat.interval.ms": 0, "lsn.flush.mode": "connector",
    }  # fmt: skip
    path.write_text("".join(f"{key}={value}\n" for key, value in (common | properties).items()))
    return path


class Recorder:
    def __init__(self, connection, servers):
        self.connection = connection
        self.consumer = Consumer({"bootstrap.servers": servers, "group.id": "recorder"})
        self.read = {}
        self.records = {name: {} for name in VARIANTS}

    def wait_for_marks(self, number):
        self._wait_for("shop.marks", number)

    def wait_for_snapshots(self):
        self._wait_for("shop.articles", 1)

    def _wait_for(self, table, number):
        """Until the topic of each variant has so many records; what was changed before has been sent by then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for name in VARIANTS:
            while self._end(f"{name}.{table}") < number:
                assert time.monotonic() < deadline, name
                time.sleep(0.1)
        time.sleep(SETTLING_SECONDS)

    def _end(self, topic):
        if topic not in self.consumer.list_topics(timeout=10).topics:
            return 0
        return self.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]

    def record(self, step):
        """What came since the last step."""
        for topic in self.consumer.list_topics(timeout=10).topics:
            variant, _, table = topic.partition(".")
            if variant in VARIANTS and table != "shop.marks":
                self._take(topic, variant, step)

    def _take(self, topic, variant, step):
        start = self.read.get(topic, 0)
        end = self._end(topic)
        if start == end:
            return
        self.consumer.assign([TopicPartition(topic, 0, start)])
        for message in self.consumer.consume(end - start, timeout=10):
            self.read[topic] = message.offset() + 1
            self._add(variant, step, _parsed(message.key()), _parsed(message.value()))

    def _add(self, variant, step, key, value):
        name = f"{variant}.{step}{_kind(step, value)}"
        assert name not in self.records[variant], name
        self.records[variant][name] = {"key": key, "value": value}

    def write(self):
        [debezium] = [jar.version for jar in locked_jars("connect") if jar.artifact == "debezium-connector-postgres"]
        [connect] = [jar.version for jar in locked_jars("kafka") if jar.artifact == "connect-runtime"]
        postgres = self.connection.execute("SHOW server_version").fetchone()[0]
        producer = f"Debezium {debezium} (PostgreSQL connector) in Kafka Connect {connect} on PostgreSQL {postgres}"
        for name, properties in VARIANTS.items():
            said = ", ".join(f"{key}={value}" for key, value in properties.items())
            source = f"Recorded by record_debezium.py: {producer}; {said}"
            records = {key: record for key, record in self.records[name].items() if _is_kept(key)}
            text = json.dumps({"_source": source, "records": records}, indent=1) + "\n"
            version = debezium.removesuffix(".Final")
            (TARGET / f"debezium-{version}-{name}.json").write_text(text)


def _kind(step, value):
    """Of the several records of one change."""
    if value is None:
        return "_tombstone"
    if "key_change" not in step:
        return ""
    change = value.get("payload", value)
    is_delete = change.get("op", change.get("__op")) == "d"
    return "_delete" if is_delete else "_create"


def _is_kept(name):
    variant, _, step = name.partition(".")
    is_about_types = "times" in variant or "micro" in variant
    return step in OF_TYPES or not is_about_types


def _parsed(data):
    return None if data is None else json.loads(data)


if __name__ == "__main__":
    main()
