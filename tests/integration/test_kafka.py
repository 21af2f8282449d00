import os
import uuid

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from embedstream import kafka
from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing, Position
from embedstream.settings import load_settings


@pytest.fixture
def settings(kafka):
    """Settings with topics and a group of the test's own."""
    name = uuid.uuid4().hex[:8]
    return load_settings(
        kafka_bootstrap_servers=kafka, kafka_input_topic=f"in-{name}", kafka_dead_letter_topic=f"dead-{name}",
        kafka_group_id=f"group-{name}", flink_parallelism=3,
    )  # fmt: skip


def test_missing_topics_are_created_once(settings):
    assert kafka.ensure_topics(settings) == [settings.kafka_input_topic, settings.kafka_dead_letter_topic]
    assert kafka.ensure_topics(settings) == []
    assert kafka.positions(settings) == [Position(n, 0, 0, None) for n in range(3)]


def test_positions_and_counts(settings):
    kafka.ensure_topics(settings)
    records = [Outgoing(b"{}", b"k", [("h", b"x"), ("nothing", None)], 1_764_000_000_000, partition=1)] * 5
    told = []
    assert kafka.produce(settings, settings.kafka_input_topic, records, told.append) == 5
    assert told[-1] == 5
    assert [position.lag for position in kafka.positions(settings)] == [0, 5, 0]
    assert kafka.count(settings, settings.kafka_input_topic) == 5
    assert kafka.count(settings, "no-such-topic") == 0


# As Kafka's own tests of its clients have them.
MURMUR2 = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}


def test_a_key_goes_where_java_s_producers_put_it(settings):
    kafka.ensure_topics(settings)
    records = [Outgoing(b"{}", key.encode()) for key in MURMUR2]
    places = {}
    kafka.produce(
        settings,
        settings.kafka_input_topic,
        records,
        on_delivered=lambda n, partition, _: places.update({n: partition}),
    )
    assert [places[n] for n in range(3)] == [(number & 0x7FFFFFFF) % 3 for number in MURMUR2.values()]


@pytest.mark.parametrize("code", sorted(kafka.PASSING))
def test_an_election_is_waited_for(settings, monkeypatch, code):
    kafka.ensure_topics(settings)
    committed, answers = Consumer.committed, [KafkaException(KafkaError(code))] * 2

    class Elected(Consumer):
        def committed(self, *args, **options):
            if answers:
                raise answers.pop()
            return committed(self, *args, **options)

    monkeypatch.setattr(kafka.log, "Consumer", Elected)
    assert len(kafka.positions(settings)) == 3
    assert answers == []


def test_an_election_without_end_is_one_clear_error(settings, monkeypatch):
    kafka.ensure_topics(settings)

    class Headless(Consumer):
        def committed(self, *_, **__):
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))

    monkeypatch.setattr(kafka.log, "Consumer", Headless)
    monkeypatch.setattr(kafka.client, "TIMEOUT", 1.0)
    with pytest.raises(ConfigError, match="check KAFKA_BOOTSTRAP_SERVERS"):
        kafka.positions(settings)


def test_no_topic_no_positions(settings):
    assert kafka.positions(settings) == []


def test_new_records_are_seen_as_they_were_sent(settings):
    kafka.ensure_topics(settings)
    topic = settings.kafka_input_topic
    kafka.produce(settings, topic, [Outgoing(b"before")])
    with kafka.tail(settings, topic) as records:
        kafka.produce(settings, topic, [Outgoing(None, b"k", [("h", b"\xff"), ("nothing", None)], 1_764_000_000_123)])
        record = next(records(10))
    assert (record.value(), record.key(), record.timestamp()[1]) == (None, b"k", 1_764_000_000_123)
    assert kafka.headers_of(record) == {"h": b"\xff", "nothing": None}


def test_a_record_that_the_broker_refuses_is_one_clear_error(settings):
    kafka.ensure_topics(settings)
    with pytest.raises(ConfigError, match="too large"):
        kafka.produce(settings, settings.kafka_input_topic, [Outgoing(os.urandom(3_000_000))])


def test_a_broker_that_is_away_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(kafka.client, "TIMEOUT", 0.5)
    with pytest.raises(ConfigError, match="check KAFKA_BOOTSTRAP_SERVERS"):
        kafka.ensure_topics(load_settings(kafka_bootstrap_servers="127.0.0.1:1"))


def test_ranges_are_read_with_their_gaps(settings):
    kafka.ensure_topics(settings)
    topic = settings.kafka_input_topic
    aborting = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": topic})
    aborting.init_transactions()
    kafka.produce(settings, topic, [Outgoing(b"%d" % n, partition=n % 2) for n in range(10)])
    aborting.begin_transaction()
    aborting.produce(topic, b"never sent", partition=0)
    aborting.flush()
    aborting.abort_transaction()
    assert sorted(message.value() for message in kafka.read(settings, topic)) == [b"%d" % n for n in range(10)]
    assert [message.value() for message in kafka.read(settings, topic, {0: (1, 3), 2: (0, 0)}, 1)] == [b"2", b"4"]
    assert [message.value() for message in kafka.read(settings, topic, {0: (4, 100)})] == [b"8"]
    assert list(kafka.read(settings, "no-such-topic")) == []


def test_a_broker_that_falls_silent_ends_the_reading(settings, monkeypatch):
    monkeypatch.setattr(kafka.reading, "_SILENCE", 0.5)
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(ConfigError, match="KAFKA_"):
        list(kafka.read(away, "topic", {0: (0, 1)}))
