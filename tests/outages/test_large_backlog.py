"""A backlog of texts that the settings accept, many times the heap, is drained without a restart.

FAULTS_BACKLOG_MB sets its size in megabytes; the default is a short cut of what `make faults` does.
"""

import json
import random

import pytest
from confluent_kafka import Producer

from embedstream.flink import Cluster
from embedstream.kafka import client_config
from support.faults import environment_number
from support.stack import running_stack, wait

MEGABYTES = environment_number("FAULTS_BACKLOG_MB", 60)
PARTITIONS = 2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    settings = {"EMBEDDING_MODEL": "fake:64", "FLINK_CHECKPOINT_INTERVAL_MS": "1000", "INDEX": "off"}
    with running_stack(tmp_path_factory.mktemp("backlog"), settings) as stack:
        yield stack


def texts(size, number, *, compressible):
    chance = random.Random(size)
    for position in range(number):
        body = "word " * (size // 5) if compressible else chance.randbytes(size // 2).hex()
        yield f"{body[: size - 8]}{position:8}"


@pytest.mark.parametrize("partitions", [1, PARTITIONS])
@pytest.mark.parametrize(
    ("codec", "size", "compressible"),
    [("zstd", 1_048_576, True), ("lz4", 1_000_000, False), ("gzip", 60_000, True)],
    ids=["the largest that compress", "large that do not", "many of 60 kB"],
)
def test_a_large_backlog_is_drained_without_a_restart(stack, say, codec, size, compressible, partitions):
    stop_job(stack)
    number = MEGABYTES * 1_000_000 // size
    prefix, refused = f"{codec}-{partitions}", []
    producer = Producer(
        {**client_config(stack.settings), "compression.type": codec, "linger.ms": 100,
         # The broker's limit is on the batch as it is compressed.
         "batch.size": 2**28 if compressible else 1,
         "message.max.bytes": 10**8, "queue.buffering.max.kbytes": 2**17}
    )  # fmt: skip
    for position, text in enumerate(texts(size, number, compressible=compressible)):
        value = json.dumps({"id": f"{prefix}-{position}", "text": text}).encode()
        producer.produce(
            stack.settings.kafka_input_topic, value, partition=position % partitions,
            on_delivery=lambda error, _: refused.append(error) if error else None,
        )  # fmt: skip
        producer.flush(0 if position % 64 else 60)
    assert (producer.flush(120), refused) == (0, [])
    stack.command("submit", timeout=240)
    wait(lambda: stored(stack, prefix) == number, 60 + 5 * MEGABYTES, f"{number} rows")
    assert stack.restarts()[1] == []
    say(f"{number:,} texts of {size:,} bytes with {codec} on {partitions} partitions: all stored")


def stop_job(stack):
    """So that all of the backlog is there when the job comes."""
    cluster = Cluster(stack.settings)
    if job := stack.job():
        cluster.cancel(job)
        wait(lambda: stack.job() is None, 60, "the job to end")


def stored(stack, prefix):
    query = "SELECT count(*) FROM text_message_embeddings WHERE id LIKE %s"
    return stack.query(query, f"{prefix}-%")[0][0]
