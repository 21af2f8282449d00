"""Compares table and topic without any code of the pipeline: by the intents in the records' headers."""

import httpx
import numpy as np
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from support.traffic import INTENT, Row, expected, read_topic


def assert_table_equals_topic(stack):
    records = read_topic(stack.settings.kafka_bootstrap_servers, stack.settings.kafka_input_topic)
    rows, deleted, dead = expected(records)
    stored = stack.query(
        "SELECT id, text, metadata, source, round(extract(epoch FROM message_timestamp) * 1000)::bigint"
        " FROM text_message_embeddings WHERE id NOT LIKE 'user-%%'"
    )
    found = {id: Row(*fields) for id, *fields in stored}
    differing = {
        id: (found.get(id), rows.get(id)) for id in found.keys() | rows.keys() if found.get(id) != rows.get(id)
    }
    assert not differing, f"{len(differing)} rows differ (found, expected): {list(differing.items())[:3]}"
    ledger = stack.query("SELECT id, state FROM text_message_embeddings_ledger WHERE id NOT LIKE 'user-%%'")
    assert {id for id, state in ledger if state == "live"} == set(rows)
    assert {id for id, state in ledger if state == "deleted"} == set(deleted)
    assert_dead_letters(stack, records, dead)
    assert_vectors(stack)
    return rows, deleted, dead


def assert_dead_letters(stack, records, dead):
    originals = {
        (record.partition(), record.offset()): record for record in records if INTENT in dict(record.headers() or [])
    }
    codes, topic_id = {}, id_of(stack.settings.kafka_bootstrap_servers, stack.settings.kafka_input_topic)
    for letter in read_topic(stack.settings.kafka_bootstrap_servers, stack.settings.kafka_dead_letter_topic):
        headers = dict(letter.headers())
        place = (int(headers["dlq.partition"]), int(headers["dlq.offset"]))
        # Of a topic that was made anew, what its former life had in the same place says nothing.
        if place not in originals or headers["dlq.topic_id"].decode() != topic_id:
            continue
        original = originals[place]
        codes[place] = headers["dlq.error"].decode()
        assert (letter.key(), letter.value()) == (original.key(), original.value())
        kept = {name: value for name, value in headers.items() if not name.startswith("dlq.")}
        # Flink's Kafka sink leaves out headers without a value.
        assert kept == {name: value for name, value in original.headers() if value is not None}
        assert headers["dlq.topic"].decode() == stack.settings.kafka_input_topic
        assert headers["dlq.stage"] == (b"embed" if codes[place] == "service_failed" else b"decode")
        assert headers["dlq.reason"]
    differing = {place: (codes.get(place), dead.get(place)) for place in codes.keys() | dead.keys()}
    differing = {place: pair for place, pair in differing.items() if pair[0] != pair[1]}
    assert not differing, f"{len(differing)} dead letters differ (found, expected): {list(differing.items())[:3]}"


def id_of(bootstrap_servers, topic):
    """As Kafka's own tools print it: in the alphabet for URLs."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    printed = str(admin.describe_topics(TopicCollection([topic]))[topic].result(10).topic_id)
    return printed.replace("+", "-").replace("/", "_")


def assert_vectors(stack):
    """Each vector is the service's own answer for its text."""
    rows = stack.query("SELECT DISTINCT ON (text) text, embedding, token_count, truncated FROM text_message_embeddings")
    for start in range(0, len(rows), 200):
        some = rows[start : start + 200]
        url = f"{stack.settings.embedding_service_url}/generate"
        answer = httpx.post(url, json={"texts": [row[0] for row in some]}, timeout=60).json()
        similarity = (np.array([row[1] for row in some]) * np.array(answer["embeddings"])).sum(axis=1)
        assert similarity.min() > 0.99999
        assert [row[2:] for row in some] == list(zip(answer["token_counts"], answer["truncated"], strict=True))
