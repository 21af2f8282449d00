"""Pathway: its Kafka source, a batched asynchronous function that embeds, its PostgreSQL sink in snapshot mode.

The sink copies each minibatch into a temporary table and merges it. Pathway has no columns of the name id and writes to
no views, so the table's key is message_id, and id another name for it.
"""

import base64
import os
from datetime import UTC, datetime

import aiohttp
import numpy as np
import pathway as pw
import psycopg

TEXTS = 128
REQUESTS = 4
MILLISECONDS = 100
BACKLOG = 4096


class Message(pw.Schema):
    message_id: str = pw.column_definition(primary_key=True)
    text: str


@pw.udf(executor=pw.udfs.async_executor(capacity=REQUESTS), max_batch_size=TEXTS, deterministic=True)
async def embed(texts: list[str]) -> list[tuple[np.ndarray, str, str, pw.DateTimeUtc, int, bool]]:
    body = {"texts": texts, "encoding_format": "base64"}
    async with aiohttp.request("POST", URL, json=body, raise_for_status=True) as response:
        answer = await response.json()
    vectors = np.frombuffer(base64.b64decode(answer["embeddings"]), "<f4").reshape(len(texts), -1)
    same = answer["model_name"], answer["model_revision"], pw.DateTimeUtc(datetime.now(UTC))
    return [
        (vector, *same, tokens, truncated)
        for vector, tokens, truncated in zip(vectors, answer["token_counts"], answer["truncated"], strict=True)
    ]


URL = os.environ["EMBEDDING_SERVICE_URL"] + "/generate"
messages = pw.io.kafka.read(
    {
        "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        "group.id": os.environ["KAFKA_GROUP_ID"],
        "auto.offset.reset": "earliest",
    },
    os.environ["KAFKA_INPUT_TOPIC"],
    schema=Message,
    format="json",
    json_field_paths={"message_id": "/id"},
    autocommit_duration_ms=MILLISECONDS,
    max_backlog_size=BACKLOG,
)
embedded = messages.select(pw.this.message_id, pw.this.text, answer=embed(pw.this.text))
rows = embedded.select(
    pw.this.message_id,
    pw.this.text,
    embedding=pw.this.answer[0],
    model_name=pw.this.answer[1],
    model_revision=pw.this.answer[2],
    message_timestamp=pw.this.answer[3],
    embedding_timestamp=pw.this.answer[3],
    metadata=pw.Json({}),
    token_count=pw.this.answer[4],
    truncated=pw.this.answer[5],
)
database = {
    "host": os.environ["PGVECTOR_HOST"],
    "port": os.environ["PGVECTOR_PORT"],
    "dbname": os.environ["PGVECTOR_DB"],
    "user": os.environ["PGVECTOR_USER"],
}
if password := os.environ.get("PGVECTOR_PASSWORD"):
    database["password"] = password
table = os.environ["PGVECTOR_TABLE"]
with psycopg.connect(**database) as connection:
    connection.execute(f"ALTER TABLE {table} RENAME COLUMN id TO message_id")
    connection.execute(f'ALTER TABLE {table} ADD COLUMN id text COLLATE "C" GENERATED ALWAYS AS (message_id) VIRTUAL')
pw.io.postgres.write(rows, database, table, output_table_type="snapshot", primary_key=[rows.message_id])
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
