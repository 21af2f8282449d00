"""What people do to table, topic and group while a job is kept on them, by PostgreSQL's and Kafka's own means.

What they have to set right again themselves is set right by the command that status tells them.
"""

import json
import threading
import time
import uuid
from contextlib import contextmanager

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from embedstream import kafka, store
from embedstream.kafka import Outgoing
from embedstream.status.parts import read_queue
from support.postgres import dump, restore
from support.stack import wait
from support.traffic import INTENT, read_topic

TABLE = "text_message_embeddings"
GROUP = "embedstream"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# Longer than HEALTH_MAX_AGE_SECONDS of the stack.
OPEN_SECONDS = 9
SOME = 40
TRUNCATED = {
    "rows": TABLE, "ledger": f"{TABLE}_ledger", "both": f"{TABLE}, {TABLE}_ledger",
    "everything": f"{TABLE}, {TABLE}_ledger, {TABLE}_progress",
}  # fmt: skip


def moved(records, traffic, partitions):
    """Copies of records for other partitions and offsets; ids that were coordinates do not move along.

    Who copies such records deletes what they had become: nothing in the new topic explains it.
    """
    for number, record in enumerate(records):
        intent = json.loads(dict(record.headers() or []).get(INTENT, b"{}"))
        if intent.get("kind") == "message" and intent["id"] is None:
            former = f"{record.topic()}-{record.partition()}-{record.offset()}"
            yield traffic.farewell(former)._replace(partition=number % partitions)
        place = (record.partition() + 1) % partitions
        yield Outgoing(record.value(), record.key(), record.headers(), record.timestamp()[1], place)


class Upheavals:
    """Causes them by name; `traffic` is what they send of their own, spread over all `partitions`."""

    def __init__(self, stack, keeper, traffic, partitions, directory):
        self._stack = stack
        self._keeper = keeper
        self._traffic = traffic
        self._partitions = partitions
        self._dump = directory / "dump"
        self._kinds = {
            "restored": (self._restored, ("running", "stopped")),
            "truncated": (self._truncated, tuple(TRUNCATED)),
            "recreated": (self._recreated, ("running", "stopped")),
            "group": (self._group, ("deleted", "stolen", "joined")),
            "transaction": (self._transaction, ("committed", "aborted")),
            "codec": (self._codec, ("changed",)),
        }  # fmt: skip
        self.names = [f"{kind} {each}" for kind, (_, all_of_it) in self._kinds.items() for each in all_of_it]

    def cause(self, name):
        kind, _, how = name.partition(" ")
        self._kinds[kind][0](how)

    @property
    def _settings(self):
        return self._stack.settings

    @property
    def _admin(self):
        return AdminClient({"bootstrap.servers": self._settings.kafka_bootstrap_servers})

    @property
    def _places(self):
        return [TopicPartition(self._settings.kafka_input_topic, number) for number in range(self._partitions)]

    @contextmanager
    def _stopped(self, stops=True):
        """No keeper and no job during the block."""
        if stops:
            self._keeper.stop()
        yield
        if stops:
            self._keeper.start()

    def _restored(self, how):
        """By a dump that is some seconds older than the table."""
        dump(self._settings, self._dump)
        self._send(SOME)
        time.sleep(4)
        with self._stopped(how == "stopped"):
            restore(self._settings, self._dump)

    def _truncated(self, what):
        with self._stack.gate:  # what is lost is told before anything else comes
            self._await_all()
            self._query(f"TRUNCATE {TRUNCATED[what]}")
            self._await_complaint("embedstream submit --replace")
        self._mend("--replace")

    def _recreated(self, how):
        """With its records, in partitions and at offsets that are others."""
        self._keeper.end_second()
        topic = self._settings.kafka_input_topic
        with self._stopped(how == "stopped"):
            with self._stack.gate:
                records = read_topic(self._settings.kafka_bootstrap_servers, topic)
                self._make_anew(topic)
                kafka.produce(self._settings, topic, moved(records, self._traffic, self._partitions))
            self._await_complaint("is another topic")
            self._mend("--replace", "--adopt-topic")

    def _make_anew(self, topic):
        broker = self._admin
        for future in broker.delete_topics([topic]).values():
            future.result(30)
        wait(lambda: topic not in broker.list_topics(timeout=10).topics, 60, "the topic to go")
        kafka.ensure_topics(self._settings.model_copy(update={"flink_parallelism": self._partitions}))

    def _group(self, how):
        """What becomes of the group of the job; `joined` is somebody who subscribes, and commits for a while."""
        if how == "joined":
            self._join(OPEN_SECONDS)
            return
        with self._stopped():
            self._send(SOME)
            broker = self._admin
            if how == "deleted":
                broker.delete_consumer_groups([GROUP])[GROUP].result(30)
                return
            with Consumer({"bootstrap.servers": self._settings.kafka_bootstrap_servers, "group.id": "x"}) as consumer:
                ends = [
                    TopicPartition(each.topic, each.partition, consumer.get_watermark_offsets(each, timeout=10)[1])
                    for each in self._places
                ]
            broker.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, ends)])[GROUP].result(30)

    def _join(self, seconds):
        conf = {
            "bootstrap.servers": self._settings.kafka_bootstrap_servers, "group.id": GROUP, "client.id": "stranger",
            "auto.commit.interval.ms": 500,
        }  # fmt: skip
        with Consumer(conf) as consumer:
            consumer.subscribe([self._settings.kafka_input_topic])
            sending = threading.Thread(target=self._send, args=(SOME,))
            sending.start()
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                consumer.poll(0.2)
            sending.join()

    def _transaction(self, how):
        """Left open for a while, in every partition."""
        name = uuid.uuid4().hex
        producer = Producer(
            {"bootstrap.servers": self._settings.kafka_bootstrap_servers, "transactional.id": name, "linger.ms": 0}
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        make = self._traffic.aborted if how == "aborted" else self._traffic.probe
        for place in self._places:
            record = make(f"{how}-{name}-{place.partition}")
            producer.produce(
                place.topic, record.value, record.key, place.partition, timestamp=record.timestamp,
                headers=record.headers,
            )  # fmt: skip
        assert producer.flush(30) == 0
        self._send(SOME)
        time.sleep(OPEN_SECONDS)
        (producer.abort_transaction if how == "aborted" else producer.commit_transaction)(30)

    def _codec(self, _):
        """Each of them by the producer, and by the broker, which then packs anew what comes otherwise."""
        for by_broker, by_producer in zip(("producer", *CODECS[1:]), CODECS, strict=True):
            self._set_codec(by_broker)
            self._send(SOME, compression=by_producer)
            self._set_codec("uncompressed" if by_producer == "zstd" else "producer")
            self._send(SOME, compression=by_producer)
        self._set_codec("producer")

    def _set_codec(self, name):
        entry = ConfigEntry("compression.type", name, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(
            ResourceType.TOPIC, self._settings.kafka_input_topic, incremental_configs=[entry]
        )  # fmt: skip
        broker = self._admin
        for future in broker.incremental_alter_configs([resource]).values():
            future.result(30)

    def _send(self, count, **options):
        self._stack.produce(self._traffic.records(count), self._partitions, **options)

    def _query(self, statement):
        with store.connect(self._settings) as connection:
            connection.execute(statement)

    def _await_all(self):
        """That the table has something of each partition, and all of it."""
        self._send(self._partitions)
        wait(lambda: read_queue(self._settings).standing.log.unread == 0, 120, "all to be in the table")

    def _await_complaint(self, words):
        """That status says what is wrong, in these words, before anybody sets it right."""

        def complains():
            health = json.loads(self._stack.command("status", "--json", timeout=120).stdout)["health"]
            return any(words in reason for reason in health["reasons"])

        wait(complains, 60, f"status to say {words!r}")

    def _mend(self, *options):
        done = self._keeper.submit(*options)
        assert done.returncode == 0, f"{options}: {done.stdout}{done.stderr}"
