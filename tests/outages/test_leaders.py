"""Three brokers with a topic of three replicas, and each partition's leader killed in turn while records are sent and
read: nothing is lost, nothing comes twice, and whoever asks how far the group is gets an answer.
"""

import itertools
import threading
import time

import pytest
from confluent_kafka import Consumer

from embedstream import kafka
from embedstream.kafka import Outgoing
from embedstream.settings import load_settings
from support.kafka_cluster import three_brokers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

AWAY_SECONDS = 6
RECORDS_A_SECOND = 500


@pytest.fixture
def brokers(tmp_path):
    with three_brokers(tmp_path) as brokers:
        yield brokers


@pytest.fixture
def settings(brokers):
    settings = load_settings(kafka_bootstrap_servers=brokers.bootstrap_servers, flink_parallelism=2)
    kafka.ensure_topics(settings)
    brokers.await_replicas(settings.kafka_input_topic)
    return settings


class Running(threading.Thread):
    """A loop until `stop`; what it raises is raised by `finish`."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.result = self.error = None
        self._work = work
        self.start()

    def run(self):
        try:
            self.result = self._work(self.stop)
        except BaseException as exc:  # noqa: BLE001 - for the test to see
            self.error = exc

    def finish(self):
        self.stop.set()
        self.join()
        if self.error:
            raise self.error
        return self.result


def sending(settings):
    def work(stop):
        return kafka.produce(settings, settings.kafka_input_topic, records(stop))

    def records(stop):
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            time.sleep(1 / RECORDS_A_SECOND)
            yield Outgoing(b"%d" % number, b"%d" % (number % 97), partition=number % 2)

    return Running(work)


def reading(settings):
    """As the job does: from the group's offsets, committed only after the work."""

    def work(stop):
        options = {"group.id": settings.kafka_group_id, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        seen = set()
        with Consumer({**kafka.client_config(settings), **options}) as consumer:
            consumer.subscribe([settings.kafka_input_topic])
            last = time.monotonic()
            while not stop.is_set() or time.monotonic() - last < 5:
                message = consumer.poll(0.1)
                if message is None or message.error():
                    continue
                last = time.monotonic()
                seen.add(int(message.value()))
                if len(seen) % 500 == 0:
                    consumer.commit(message, asynchronous=True)
        return seen

    return Running(work)


def asking(settings):
    """How often the positions were told; all that they raise ends it."""

    def work(stop):
        told = 0
        while not stop.wait(0.2):
            assert all(position.lag >= 0 for position in kafka.positions(settings))
            kafka.count(settings, settings.kafka_input_topic)
            told += 1
        return told

    return Running(work)


def test_a_leader_that_is_killed_costs_nothing(brokers, settings):
    topic = settings.kafka_input_topic
    sender, reader, asker = running = sending(settings), reading(settings), asking(settings)
    try:
        kill_leaders(brokers, settings)
        sent = sender.finish()
        assert asker.finish() > 10
        assert reader.finish() == set(range(sent))
    finally:
        for each in running:
            each.stop.set()
    extent = kafka.extent(settings, topic)
    stored = [[int(each.value()) for each in kafka.read(settings, topic, {n: extent[n]})] for n in sorted(extent)]
    assert stored == [list(range(0, sent, 2)), list(range(1, sent, 2))]


def kill_leaders(brokers, settings):
    topic = settings.kafka_input_topic
    for partition in (0, 1, 0):
        time.sleep(3)
        leader = brokers.leader(topic, partition)
        leader.kill()
        time.sleep(AWAY_SECONDS)
        assert sum(1 for _ in kafka.read(settings, topic)) > 0
        leader.start()
        brokers.await_replicas(topic)
