"""What is told of the log of the input topic: what is unread, held back, beyond the end, and who else reads it."""

import time
import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from embedstream import kafka
from embedstream.kafka import Outgoing
from embedstream.settings import load_settings


@pytest.fixture
def settings(kafka):
    """Settings with a topic of two partitions and a group of the test's own."""
    name = uuid.uuid4().hex[:8]
    settings = load_settings(
        kafka_bootstrap_servers=kafka, kafka_input_topic=f"in-{name}", kafka_dead_letter_topic=f"dead-{name}",
        kafka_group_id=f"group-{name}", flink_parallelism=2,
    )  # fmt: skip
    topics(settings)
    return settings


def topics(settings):
    kafka.ensure_topics(settings)


@pytest.fixture
def transaction(settings):
    """A transactional producer of partition 0: `transaction(value, ...)` sends in one, and leaves it open."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)

    def send(*values, timestamp=0):
        producer.begin_transaction()
        for value in values:
            producer.produce(settings.kafka_input_topic, value, partition=0, timestamp=timestamp)
        producer.flush()
        return producer

    return send


def send(settings, *values, **facts):
    records = [Outgoing(value, partition=0, **facts) for value in values]
    kafka.produce(settings, settings.kafka_input_topic, records)


def commit(settings, offset, partition=0):
    with Consumer({**kafka.client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        consumer.commit(offsets=[TopicPartition(settings.kafka_input_topic, partition, offset)], asynchronous=False)


def position(settings, recorded=None):
    return kafka.look(settings, recorded).positions[0]


def test_what_a_reader_would_still_get_is_unread(settings):
    send(settings, b"a", b"b", b"c")
    assert kafka.look(settings).unread == 3
    commit(settings, 2)
    found = position(settings)
    assert (found.unread, found.committed, found.next, found.end) == (1, 2, 2, 3)
    assert found.head.offset == 2
    assert found.head.age == pytest.approx(0, abs=60)
    assert position(settings, {0: 3}).unread == 0
    assert position(settings, {0: 1}).unread == 2
    assert position(settings, {1: 0}).unread == 1, "of a partition without progress the group's offset counts"
    assert kafka.look(settings, {1: 0}, complete=True).unread == 3, "where that is all, the table has nothing of it"


@pytest.mark.parametrize("value", [None, b""])
def test_a_record_without_a_value_is_unread_like_any_other(settings, value):
    """The client's messages are false where they have no value: a delete at the head hid all that came after it."""
    send(settings, b"a", value, b"b")
    found = position(settings, {0: 1})
    assert (found.unread, found.head.offset) == (2, 1)
    assert kafka.look(settings, {0: 1}).oldest_unread == pytest.approx(0, abs=60)


@pytest.mark.parametrize("commits", [True, False])
def test_markers_and_aborted_records_are_never_unread(settings, transaction, commits):
    send(settings, b"a")
    producer = transaction(b"b", b"c")
    producer.commit_transaction(30) if commits else producer.abort_transaction(30)
    assert until(lambda: position(settings).end == 4 and not position(settings).behind_transaction)
    assert position(settings, {0: 1}).lag == 3
    assert position(settings, {0: 1}).unread == (3 if commits else 0)
    assert position(settings, {0: 3}).unread == 0
    assert position(settings, {0: 0}).unread > 0
    assert kafka.look(settings, {0: 3}).oldest_unread is None


def test_a_record_after_aborted_ones_is_the_first_unread_one(settings, transaction):
    transaction(b"never", b"sent").abort_transaction(30)
    assert until(lambda: position(settings).stable == 3)
    send(settings, b"a")
    found = position(settings)
    assert (found.next, found.lag, found.head.offset, found.unread) == (0, 4, 3, 1)


def test_what_waits_behind_an_open_transaction_is_told_apart(settings, transaction):
    send(settings, b"a")
    began = int(time.time() * 1000) - 90_000
    producer = transaction(b"open", timestamp=began)
    send(settings, *[b"%d" % n for n in range(50)])
    log = kafka.look(settings)
    found = log.positions[0]
    assert (found.unread, found.stable, found.end, found.behind_transaction) == (1, 1, 52, 51)
    assert found.held.offset == 1
    assert log.oldest_held == pytest.approx(90, abs=30)
    assert log.behind_transaction == 51
    commit(settings, 1)
    assert (kafka.look(settings).unread, kafka.look(settings).behind_transaction) == (0, 51)
    producer.abort_transaction(30)
    assert until(lambda: not position(settings).behind_transaction)
    found = position(settings)
    assert (found.unread, found.behind_transaction, found.held) == (51, 0, None)


def test_two_transactions_hold_back_from_the_older_one_on(settings, transaction):
    older = transaction(b"old")
    name = {"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": uuid.uuid4().hex}
    newer = Producer(name)
    newer.init_transactions(30)
    newer.begin_transaction()
    newer.produce(settings.kafka_input_topic, b"new", partition=0)
    newer.commit_transaction(30)
    assert until(lambda: position(settings).end == 3)
    assert (position(settings).stable, position(settings).behind_transaction) == (0, 3)
    older.commit_transaction(30)
    assert until(lambda: not position(settings).behind_transaction)
    assert position(settings).unread == 4


def test_an_offset_beyond_the_end_is_told_and_counts_as_not_begun(settings):
    send(settings, b"a", b"b")
    commit(settings, 10_000_000)
    found = position(settings)
    assert found.beyond == [("group", 10_000_000)]
    assert (found.next, found.unread, found.settled) == (0, 2, 0)
    found = position(settings, {0: 1})
    assert (found.beyond, found.unread) == ([("group", 10_000_000)], 1)
    assert position(settings, {0: 7}).beyond == [("group", 10_000_000), ("table", 7)]
    assert min(each.lag for each in kafka.positions(settings)) == 0


def test_a_log_that_lost_its_beginning(settings):
    send(settings, b"a", b"b", b"c", b"d")
    place = TopicPartition(settings.kafka_input_topic, 0, 3)
    admin = AdminClient(kafka.client_config(settings))
    admin.delete_records([place])[place].result(10)
    assert position(settings).expired_unread == 0, "who has not begun has lost nothing"
    commit(settings, 1)
    found = position(settings)
    assert (found.first, found.next, found.unread, found.expired_unread) == (3, 3, 1, 2)
    assert position(settings, {0: 3}).expired_unread == 0
    assert position(settings, {0: 4}).unread == 0


def test_below_which_offset_all_is_settled(settings):
    """Dead letters are written when the group commits, rows before it."""
    send(settings, b"a", b"b", b"c", b"d")
    assert position(settings, {0: 4}).settled == 0
    commit(settings, 2)
    assert [position(settings, each).settled for each in (None, {0: 1}, {0: 4})] == [2, 1, 2]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_who_subscribed_with_the_group_is_told_by_name(settings, protocol):
    """Consumers that take their partitions by themselves, as the job does, and our own are no members."""
    config = {**kafka.client_config(settings), "group.id": settings.kafka_group_id}
    assigned = Consumer({**config, "client.id": "assigned"})
    assigned.assign([TopicPartition(settings.kafka_input_topic, 0, 0)])
    assigned.poll(1)
    assert kafka.look(settings).members == []
    with Consumer({**config, "client.id": "stranger", "group.protocol": protocol}) as stranger:
        stranger.subscribe([settings.kafka_input_topic])
        deadline = time.monotonic() + 30
        while not (found := kafka.look(settings).members) and time.monotonic() < deadline:
            stranger.poll(0.5)
        assert [str(member) for member in found] == ["stranger at 127.0.0.1"]
    assigned.close()
    assert kafka.look(settings).members == []


def test_a_topic_has_an_identity_of_its_own(settings):
    """Made anew under its name it is another one, in the same cluster."""
    before = kafka.identity(settings)
    admin = AdminClient(kafka.client_config(settings))
    admin.delete_topics([settings.kafka_input_topic])[settings.kafka_input_topic].result(10)
    assert until(lambda: kafka.identity(settings) == (before.cluster_id, None))
    topics(settings)
    assert until(lambda: kafka.identity(settings).topic_id)
    after = kafka.identity(settings)
    assert after.cluster_id == before.cluster_id
    assert after.topic_id != before.topic_id


def until(condition):
    """What one broker answers another may not know yet."""
    deadline = time.monotonic() + 20
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
