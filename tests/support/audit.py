"""A job that a test plays by hand, for the audit to look at."""

import json
import time
import uuid
from datetime import UTC, datetime

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from embedstream import kafka as topics
from embedstream import starts, store
from embedstream.audit import records
from embedstream.decode.opening import decoder_of, headers_of
from embedstream.documents import DocumentIngest
from embedstream.ingest import Ingest
from embedstream.kafka import Outgoing
from embedstream.retry import Patience
from embedstream.space import Space
from embedstream.splitting import splitter_of
from support.fakes import HashEmbedder
from support.traffic import read_topic

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)
# The broker deletes what is older than its retention.
T0 = int(time.time() * 1000) - 60_000
TABLE = "text_message_embeddings"
LEDGER = f"{TABLE}_ledger"


class UnitEmbedder(HashEmbedder):
    def vector(self, text):
        vector = super().vector(text)
        return vector / np.linalg.norm(vector)


class Job:
    """Plays the job: reads the topic, ingests, writes dead letters, commits."""

    def __init__(self, settings, space=SPACE, embedder=None):
        self.settings = settings
        self.space = space
        self.embedder = embedder or UnitEmbedder(poison=("poison",))
        self.done = set()
        self.clock = T0
        self.producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
        self.splitter = splitter_of(settings, space)
        store.prepare(settings, space, splitting=self.splitter.identity if self.splitter else None)
        topics.ensure_topics(settings)

    def send(self, id, text=None, at=None, partition=0, **fields):
        self.clock += 10
        value = None if text is None else json.dumps({"text": text, **fields}).encode()
        self.send_raw(value, id.encode(), at or self.clock, partition)

    def send_raw(self, value, key=b"k", at=T0, partition=0):
        headers = [("origin", b"test"), ("none", None)]
        topic = self.settings.kafka_input_topic
        self.producer.produce(topic, value, key, partition, timestamp=at, headers=headers)
        self.producer.flush()

    def run(self, *, commit=True, dead_letters=True, again=False):
        messages = [m for m in self.messages() if again or self._place(m) not in self.done]
        self.done |= {self._place(m) for m in messages}
        ingest, table = self.worker()
        letters = self.deliver(ingest, messages)
        table.close()
        if dead_letters:
            topics.produce(self.settings, self.settings.kafka_dead_letter_topic, letters)
        if commit:
            self.commit()

    def worker(self):
        """What ingests, and its store, as a worker of the job has them; whoever asks for them closes the store."""
        table = (store.DocumentStore if self.splitter else store.TableStore)(self.settings, self.space)
        make, more = (DocumentIngest, [self.splitter]) if self.splitter else (Ingest, [])
        decode = decoder_of(self.settings, self.space.model_name)
        return make(self.embedder, table, decode, Patience(), *more), table

    def deliver(self, ingest, messages):
        """One micro-batch; returns its dead letters."""
        outcomes = ingest([topics.record_of(message, headers_of(self.settings)) for message in messages])
        return [self._letter(m, outcome) for m, outcome in zip(messages, outcomes, strict=True) if outcome.error]

    def begin(self, **options):
        """As a submission does; what is behind the places that it chooses is read again."""
        chosen = {start.partition: start.offset for start in starts.begin(self.settings, **options)}
        self.done = {(partition, offset) for partition, offset in self.done if offset < chosen[partition]}

    def commit(self):
        places = [
            TopicPartition(self.settings.kafka_input_topic, each.partition, each.end)
            for each in topics.positions(self.settings)
        ]
        with Consumer(
            {"bootstrap.servers": self.settings.kafka_bootstrap_servers, "group.id": self.settings.kafka_group_id}
        ) as consumer:
            consumer.commit(offsets=places, asynchronous=False)

    def messages(self):
        ranges = [audit_range(each) for each in topics.positions(self.settings)]
        for batch in records.read(self.settings, self.settings.kafka_input_topic, ranges):
            yield from batch

    def _place(self, message):
        return message.partition(), message.offset()

    def _letter(self, message, outcome):
        error = outcome.error
        facts = {
            "topic": message.topic(), "partition": message.partition(), "offset": message.offset(),
            "timestamp": datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).isoformat(timespec="milliseconds"),
            "stage": error.stage, "error": error.code, "reason": error.reason,
        }  # fmt: skip
        if outcome.items:
            facts["items"] = ",".join(map(str, outcome.rejected_items))
        headers = topics.headers_of(message) | {f"dlq.{name}": str(value).encode() for name, value in facts.items()}
        return Outgoing(message.value(), message.key(), list(headers.items()))


def audit_range(position):
    return records.Range(position.partition, position.first, position.end)


def own_settings(database, kafka):
    """Settings with topics and a group of the test's own."""
    name = uuid.uuid4().hex[:8]
    return database.model_copy(
        update={
            "kafka_bootstrap_servers": kafka, "kafka_input_topic": f"in-{name}",
            "kafka_dead_letter_topic": f"dead-{name}", "kafka_group_id": f"group-{name}", "flink_parallelism": 2,
        }
    )  # fmt: skip


def filled(settings):
    """A job that has done 14 messages: 8 rows, an id that is deleted, and a message that came late for it."""
    job = Job(settings)
    for n in range(8):
        job.send(f"id-{n}", f"first {n}", metadata={"n": n, "wide": "a\\b\t"}, source="we\tb\\", partition=n % 2)
    for n in range(4):
        job.send(f"id-{n}", f"second {n}", partition=n % 2)
    job.send("gone")
    job.send("gone", "was there", at=T0)
    job.run()
    return job


def execute(settings, statement, *parameters):
    with store.connect(settings) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else None


def found(report):
    return {(each.kind, each.id) for each in report.findings}


def figures(report):
    assert report.closes
    assert (report.exploded, report.outcomes.filtered) == (0, 0)
    return (report.messages, *(number for name, number in report.outcomes._asdict().items() if name != "filtered"))


def until(condition):
    deadline = time.monotonic() + 20
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found


def made_anew(settings, partitions=2):
    """The topic of that name is another one after this; returns what the former one held."""
    records = read_topic(settings.kafka_bootstrap_servers, settings.kafka_input_topic)
    admin, topic = AdminClient(topics.client_config(settings)), settings.kafka_input_topic
    admin.delete_topics([topic])[topic].result(20)
    until(lambda: topics.identity(settings).topic_id is None)
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)
    until(lambda: len(topics.positions(settings)) == partitions)
    return records


def copy(settings, records):
    """The records of a topic with their keys and times, at the places that a producer gives them now."""
    sent = [Outgoing(each.value(), each.key(), each.headers(), each.timestamp()[1]) for each in records]
    topics.produce(settings, settings.kafka_input_topic, sent)


def record_of(settings, id):
    """The newest record of an id."""
    records = read_topic(settings.kafka_bootstrap_servers, settings.kafka_input_topic)
    return [record for record in records if record.key() == id.encode()][-1]


def lose(settings, id):
    execute(settings, f"DELETE FROM {TABLE} WHERE id = %s", id)
    execute(settings, f"DELETE FROM {LEDGER} WHERE id = %s", id)
