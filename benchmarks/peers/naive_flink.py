"""The job that a tutorial writes: for each record one HTTP request, then one INSERT statement.

The same topic, the same service and a table of the same shape as embedstream's own, but no batches, no ledger, no
versions; it fails where a message is no JSON or the service is away.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.stack import Stack
    from embedstream.settings import Settings

INSERT = """
INSERT INTO {table} (id, text, embedding, model_name, model_revision, source, message_timestamp,
    embedding_timestamp, metadata, token_count, truncated)
VALUES (%s, %s, %s, %s, %s, %s, now(), %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET text = excluded.text, embedding = excluded.embedding
"""


@contextmanager
def running_naive_job(stack: Stack, settings: Settings) -> Iterator[Settings]:
    """The job with topic and table of its own, cancelled after the block."""
    from embedstream import embedding, flink, kafka, store  # noqa: PLC0415 - the job's own process needs none of them

    kafka.ensure_topics(settings)
    store.prepare(settings, embedding.read_space(settings))
    rest = urlsplit(settings.flink_rest_url)
    command = [
        str(flink.flink_home() / "bin" / "flink"), "run", "--detached", "--target=remote",
        f"-Drest.address={rest.hostname}", f"-Drest.port={rest.port}", f"--pyExecutable={sys.executable}",
        f"--pyClientExecutable={sys.executable}", "--python", __file__,
    ]  # fmt: skip
    with stack.running_job(settings, *command):
        yield settings


def main() -> None:
    from pyflink.common import SimpleStringSchema, WatermarkStrategy  # noqa: PLC0415
    from pyflink.datastream import StreamExecutionEnvironment  # noqa: PLC0415
    from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSource  # noqa: PLC0415

    environment = StreamExecutionEnvironment.get_execution_environment()
    environment.set_parallelism(int(os.environ["FLINK_PARALLELISM"]))
    environment.enable_checkpointing(10_000)
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
        .set_topics(os.environ["KAFKA_INPUT_TOPIC"])
        .set_group_id(os.environ["KAFKA_GROUP_ID"])
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    stream = environment.from_source(source, WatermarkStrategy.no_watermarks(), "messages")
    stream.map(_embed_and_store()).print()
    environment.execute(os.environ["FLINK_JOB_NAME"])


def _embed_and_store() -> Any:  # noqa: ANN401 - pyflink's type is not there in the other process
    import psycopg  # noqa: PLC0415
    import requests  # noqa: PLC0415
    from pyflink.datastream import MapFunction, RuntimeContext  # noqa: PLC0415

    url = os.environ["EMBEDDING_SERVICE_URL"] + "/generate"
    where = f"host={os.environ['PGVECTOR_HOST']} port={os.environ['PGVECTOR_PORT']} user={os.environ['PGVECTOR_USER']}"
    database = f"{where} dbname={os.environ['PGVECTOR_DB']}"
    statement = INSERT.format(table=os.environ["PGVECTOR_TABLE"])

    class EmbedAndStore(MapFunction):
        def open(self, runtime_context: RuntimeContext) -> None:
            self.connection = psycopg.connect(database)

        def map(self, value: str) -> str:
            message = json.loads(value)
            answer = requests.post(url, json={"id": message["id"], "text": message["text"]}, timeout=60)
            row = answer.json()
            self.connection.execute(
                statement,
                [
                    row["id"], row["text"], row["embedding"], row["model_name"], row["model_revision"], row["source"],
                    row["embedding_timestamp"], "{}", row["token_count"], row["truncated"],
                ],
            )  # fmt: skip
            self.connection.commit()
            return str(row["id"])

    return EmbedAndStore()


if __name__ == "__main__":
    main()
