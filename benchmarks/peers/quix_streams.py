"""Quix Streams with a batching sink: each checkpoint is embedded by parallel requests and stored by one COPY.

Its own PostgreSQLSink writes lists as JSON, which a column of real[] refuses. Batches are made in the sink, because a
window of messages is one of a key, and each message has a key of its own here.
"""

import base64
import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from quixstreams import Application
from quixstreams.sinks import BatchingSink

TEXTS = 128
REQUESTS = 4
CHECKPOINT = 1024
SECONDS = 0.2

STAGING = """
CREATE TEMPORARY TABLE staging (
    id text, text text, embedding vector, model_name text, model_revision text, token_count integer, truncated boolean
) ON COMMIT DELETE ROWS
"""
TYPES = ("text", "text", "vector", "text", "text", "int4", "bool")
UPSERT = """
INSERT INTO {table} (id, text, embedding, model_name, model_revision, message_timestamp, embedding_timestamp,
    metadata, token_count, truncated)
SELECT id, text, embedding::real[], model_name, model_revision, now(), now(), '{{}}', token_count, truncated
FROM staging
ON CONFLICT (id) DO UPDATE SET text = excluded.text, embedding = excluded.embedding
"""


class EmbeddingSink(BatchingSink):
    def setup(self):
        self.service = httpx.Client(base_url=os.environ["EMBEDDING_SERVICE_URL"], timeout=60)
        self.requests = ThreadPoolExecutor(REQUESTS)
        self.database = psycopg.connect(
            host=os.environ["PGVECTOR_HOST"],
            port=os.environ["PGVECTOR_PORT"],
            dbname=os.environ["PGVECTOR_DB"],
            user=os.environ["PGVECTOR_USER"],
            password=os.environ.get("PGVECTOR_PASSWORD"),
            autocommit=True,
        )
        register_vector(self.database)
        self.database.execute(STAGING)
        self.upsert = UPSERT.format(table=os.environ["PGVECTOR_TABLE"])

    def write(self, batch):
        newest = list({item.value["id"]: item.value for item in batch}.values())
        chunks = [newest[start : start + TEXTS] for start in range(0, len(newest), TEXTS)]
        with self.database.transaction(), self.database.cursor() as cursor:
            with cursor.copy("COPY staging FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(TYPES)
                for rows in self.requests.map(self.embed, chunks):
                    for row in rows:
                        copy.write_row(row)
            cursor.execute(self.upsert)

    def embed(self, messages):
        texts = [message["text"] for message in messages]
        response = self.service.post("/generate", json={"texts": texts, "encoding_format": "base64"})
        answer = response.raise_for_status().json()
        vectors = np.frombuffer(base64.b64decode(answer["embeddings"]), "<f4").reshape(len(texts), -1)
        model = answer["model_name"], answer["model_revision"]
        return [
            (message["id"], message["text"], vector, *model, tokens, truncated)
            for message, vector, tokens, truncated in zip(
                messages, vectors, answer["token_counts"], answer["truncated"], strict=True
            )
        ]


app = Application(
    broker_address=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
    consumer_group=os.environ["KAFKA_GROUP_ID"],
    auto_offset_reset="earliest",
    commit_every=CHECKPOINT,
    commit_interval=SECONDS,
    consumer_poll_timeout=SECONDS,
    loglevel="WARNING",
)
app.dataframe(app.topic(os.environ["KAFKA_INPUT_TOPIC"], value_deserializer="json")).sink(EmbeddingSink())
app.run()
