"""What a legal batch may hold: any codec, and records of any size whatever they were compressed to."""

import json
import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from embedstream.kafka import client_config
from embedstream.limits import LARGEST_MESSAGE, MIB
from support.stack import wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def prefix():
    """What the ids of a test begin with; the stack is shared."""
    return uuid.uuid4().hex[:8]


def produce(stack, values, *, key=None, headers=None, partitions=2, **options):
    """One batch for each partition, if it compresses to less than the broker's limit."""
    producer = Producer(
        {**client_config(stack.settings), "linger.ms": 500, "batch.size": 2**29, "message.max.bytes": 10**9,
         "queue.buffering.max.kbytes": 2**20, **options}
    )  # fmt: skip
    failures = []
    for number, value in enumerate(values):
        producer.produce(
            stack.settings.kafka_input_topic, value, key, headers=headers or [], partition=number % partitions,
            on_delivery=lambda error, _: error and failures.append(error),
        )  # fmt: skip
    producer.flush(60)
    assert failures == []


def message(id, text):
    return json.dumps({"id": id, "text": text}).encode()


def stored(stack, prefix):
    return stack.query("SELECT count(*) FROM text_message_embeddings WHERE id LIKE %s", f"{prefix}-%")[0][0]


def set_codec(stack, topic, codec):
    entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(client_config(stack.settings))
    admin.incremental_alter_configs([resource])[resource].result(20)


def dead_letters(stack, code):
    """The dead letters with that code: places, values and headers."""
    topic = stack.settings.kafka_dead_letter_topic
    options = {**client_config(stack.settings), "group.id": "look", "fetch.message.max.bytes": 2**27}
    found = []
    with Consumer(options) as consumer:
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)
        consumer.assign([TopicPartition(topic, 0, first)])
        while first < end and (record := consumer.poll(10)) is not None:
            first = record.offset() + 1
            headers = dict(record.headers())
            if headers["dlq.error"] == code.encode():
                found.append((f"0:{record.offset()}", record.value(), headers))
    return found


def test_batches_of_every_codec_are_read(stack, prefix):
    before = stack.restarts()
    for codec in CODECS:
        produce(stack, [message(f"{prefix}-{codec}-{n}", "many words " * 50) for n in range(20)],
                **{"compression.type": codec})  # fmt: skip
    wait(lambda: stored(stack, prefix) == 20 * len(CODECS), 60, "rows of every codec")
    assert stack.restarts() == before


def test_topics_may_have_any_codec(stack, prefix):
    """The broker then writes each batch anew; dead letters are read back by librdkafka, as the tools read them."""
    before = stack.restarts()
    topics = stack.settings.kafka_input_topic, stack.settings.kafka_dead_letter_topic
    for codec in ("gzip", "snappy", "lz4", "zstd", "uncompressed", "producer"):
        for topic in topics:
            set_codec(stack, topic, codec)
        id = f"{prefix}-{codec}"
        bad = json.dumps({"id": id, "text": "many words", "timestamp": "never"}).encode()
        produce(stack, [message(id, "many words " * 50), bad], partitions=1)
        wait(lambda id=id: is_row(stack, id), 30, f"a row behind {codec}")
        wait(lambda bad=bad: bad in [value for _, value, _ in dead_letters(stack, "bad_timestamp")], 30, codec)
    assert stack.restarts() == before


def is_row(stack, id):
    return stack.query("SELECT 1 FROM text_message_embeddings WHERE id = %s", id) == [(1,)]


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_the_longest_texts_are_drained_though_their_batches_are_small(stack, prefix, codec, partitions):
    """A hundred of them are more than the heap, and less than a fetch of the broker."""
    before = stack.restarts()
    text = "word " * (stack.settings.max_text_bytes // 5 - 10)
    values = (message(f"{prefix}-{n}", f"{text}{n}") for n in range(100))
    produce(stack, values, partitions=partitions, **{"compression.type": codec})
    wait(lambda: stored(stack, prefix) == 100, 180, "all texts")
    assert stack.restarts() == before


def test_the_longest_texts_are_drained_when_every_byte_of_theirs_is_escaped(stack, prefix):
    before = stack.restarts()
    text = "x" + "\x01" * (stack.settings.max_text_bytes - 1)  # one character that is seen, and none of the others
    values = (message(f"{prefix}-{n}", text[: -n - 1]) for n in range(16))
    produce(stack, values, **{"compression.type": "zstd"})
    wait(lambda: stored(stack, prefix) == 16, 180, "all texts")
    assert stack.restarts() == before


def test_large_keys_and_headers_count_as_bytes_too(stack, prefix):
    before = stack.restarts()
    values = [message(f"{prefix}-{n}", f"text {n}") for n in range(40)]
    produce(stack, values[:20], key=b"k" * MIB, **{"compression.type": "zstd"})
    produce(stack, values[20:], headers=[("trace", b"h" * MIB)], **{"compression.type": "zstd"})
    wait(lambda: stored(stack, prefix) == 40, 120, "all texts")
    assert stack.restarts() == before


def test_a_record_that_is_too_large_is_a_dead_letter_and_what_lies_behind_it_a_row(stack, prefix):
    """Whole where it can be sent again; without its value, and saying so, where not even the dead letter fits."""
    before = stack.restarts()
    large = message(f"{prefix}-large", "x" * (LARGEST_MESSAGE - 200))
    huge = message(f"{prefix}-huge", "x" * (3 * LARGEST_MESSAGE))
    produce(stack, [large, huge, message(f"{prefix}-behind", "small")], partitions=1, **{"compression.type": "zstd"})
    wait(lambda: stored(stack, prefix) == 1, 120, "the row behind them")
    wait(lambda: len(dead_letters(stack, "record_too_large")) == 2, 60, "their dead letters")
    (_, whole, headers), (place, nothing, said) = dead_letters(stack, "record_too_large")
    assert (whole, headers.get("dlq.omitted")) == (large, None)
    assert (nothing, said["dlq.omitted"]) == (None, b"value")
    assert said["dlq.offset"] == str(int(headers["dlq.offset"]) + 1).encode()
    assert stack.restarts() == before
    refused = stack.command("dead-letters", "replay", place, check=False)
    assert refused.returncode == 2
    assert "lacks its value" in refused.stderr
    replayed = json.loads(
        stack.command("dead-letters", "replay", "--code", "record_too_large", "--dry-run", "--json").stdout
    )
    assert (replayed["sent"], replayed["skipped"]) == (1, 1)
