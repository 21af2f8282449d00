"""CocoIndex in live mode: its Kafka source, one batched function that embeds, its PostgreSQL target.

The table is there already, so rows are CocoIndex's and the table is the user's. It batches calls and statements itself.
"""

import base64
import os
from datetime import UTC, datetime

import aiohttp
import asyncpg
import cocoindex as coco
import numpy as np
import orjson
from cocoindex.connectorkits.target import ManagedBy
from cocoindex.connectors import kafka, postgres
from confluent_kafka.aio import AIOConsumer

TEXTS = 128

DATABASE = coco.ContextKey("database")
EMBEDDER = coco.ContextKey("embedder")
COLUMNS = {
    "id": "text",
    "text": "text",
    "embedding": "real[]",
    "model_name": "text",
    "model_revision": "text",
    "message_timestamp": "timestamptz",
    "embedding_timestamp": "timestamptz",
    "metadata": "jsonb",
    "token_count": "integer",
    "truncated": "boolean",
}


@coco.lifespan
async def lifespan(builder):
    async with (
        asyncpg.create_pool(
            host=os.environ["PGVECTOR_HOST"],
            port=os.environ["PGVECTOR_PORT"],
            database=os.environ["PGVECTOR_DB"],
            user=os.environ["PGVECTOR_USER"],
            password=os.environ.get("PGVECTOR_PASSWORD"),
        ) as database,
        aiohttp.ClientSession(os.environ["EMBEDDING_SERVICE_URL"]) as service,
    ):
        builder.provide(DATABASE, database)
        builder.provide(EMBEDDER, Embedder(service))
        yield


class Embedder:
    def __init__(self, service):
        self.service = service

    @coco.fn.as_async(batching=True, max_batch_size=TEXTS)
    async def embed(self, texts):
        body = {"texts": texts, "encoding_format": "base64"}
        async with self.service.post("/generate", json=body, raise_for_status=True) as response:
            answer = orjson.loads(await response.read())
        vectors = np.frombuffer(base64.b64decode(answer["embeddings"]), "<f4").reshape(len(texts), -1).tolist()
        model = {"model_name": answer["model_name"], "model_revision": answer["model_revision"]}
        return [
            {"embedding": vector, "token_count": tokens, "truncated": truncated, **model}
            for vector, tokens, truncated in zip(vectors, answer["token_counts"], answer["truncated"], strict=True)
        ]


@coco.fn
async def process(record, table):
    message = orjson.loads(record.value())
    embedded = await coco.use_context(EMBEDDER).embed(message["text"])
    now = datetime.now(UTC)
    stamps = {"message_timestamp": now, "embedding_timestamp": now}
    table.declare_row(row={"id": message["id"], "text": message["text"], "metadata": "{}", **stamps, **embedded})


@coco.fn
async def main():
    columns = {name: postgres.ColumnDef(kind) for name, kind in COLUMNS.items()}
    table = await postgres.mount_table_target(
        DATABASE, os.environ["PGVECTOR_TABLE"], postgres.TableSchema(columns, ["id"]), managed_by=ManagedBy.USER
    )
    consumer = AIOConsumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": os.environ["KAFKA_GROUP_ID"],
            "enable.auto.commit": "false",
            "auto.offset.reset": "earliest",
        }
    )
    await coco.mount_each(process, kafka.topic_as_map(consumer, [os.environ["KAFKA_INPUT_TOPIC"]]), table)


app = coco.App(coco.AppConfig(name="embeddings"), main)
app.update_blocking(live=True)
