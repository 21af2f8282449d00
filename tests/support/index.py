"""Tables with an index, or one in the making."""

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np

from embedstream import store
from embedstream.decode.message import Message, Version, content_hash
from embedstream.index.build import build
from embedstream.index.state import Catalog
from embedstream.ingest import Change, Embedded
from embedstream.space import Space
from support.stack import wait

MOMENT = datetime(2025, 11, 24, tzinfo=UTC)
RANDOM = np.random.default_rng(7)
NAME = "text_message_embeddings_hnsw"
BY_HAND = "CREATE INDEX {} ON text_message_embeddings USING hnsw ((embedding::vector(8)) vector_cosine_ops)"


def space(dimension):
    return Space("org/model", "r1", dimension, normalised=True, max_tokens=256)


def fill(settings, rows, dimension=8, first=0):
    table = store.TableStore(settings, space(dimension))
    for start in range(first, first + rows, 1000):
        ids = range(start, min(start + 1000, first + rows))
        vectors = RANDOM.standard_normal((len(ids), dimension)).astype(np.float32)
        table.write([change(id, vector) for id, vector in zip(ids, vectors, strict=True)])
    table.close()


def change(id, vector):
    text = f"text {id}"
    version = Version(MOMENT, "t", 0, id)
    metadata = json.dumps({"rare": id % 500 == 0})
    return Change(
        Message(str(id), version, text, content_hash(text), MOMENT, None, metadata), Embedded(vector, 5, False)
    )


def look(settings, kind="vector"):
    with store.connect(settings) as connection:
        return Catalog(connection, settings, kind).look()


def look_at_build(settings, kind):
    with store.connect(settings) as connection:
        return Catalog(connection, settings, kind).look_for_built()


@contextmanager
def held_build(settings, **options):
    """A build that cannot end before the block does: at last it waits for a transaction that is older."""
    failures = []

    def run():
        try:
            build(settings, **options)
        except Exception as exc:  # noqa: BLE001 - looked at below
            failures.append(exc)

    with store.connect(settings) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        thread = threading.Thread(target=run)
        thread.start()
        try:
            kind = options.get("kind", "vector")
            wait(lambda: (look_at_build(settings, kind).phase or "").endswith("old snapshots"), 60, "the build to wait")
            yield failures
        finally:
            reader.execute("ROLLBACK")
            thread.join(60)
    assert not thread.is_alive()


def end_backend(settings, failures, kind="vector"):
    """End the backend that builds, and wait until its client has noticed."""
    with store.connect(settings) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [look(settings, kind).pid])
    wait(lambda: failures, 30, "the builder to notice")
