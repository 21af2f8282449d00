"""Ways in which a lost or stale row could hide from the audit."""

import time
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from embedstream import kafka as topics
from embedstream.audit import Wishes, audit, proof
from embedstream.kafka import Outgoing
from support.audit import (
    LEDGER,
    T0,
    TABLE,
    UnitEmbedder,
    execute,
    figures,
    filled,
    found,
    lose,
    made_anew,
    own_settings,
    record_of,
    until,
)  # fmt: skip
from support.progress import forget_progress, record_progress


@pytest.fixture
def settings(database, kafka):
    return own_settings(database, kafka)


@pytest.fixture
def job(settings):
    return filled(settings)


def letter(settings, record, at=None, **facts):
    """A dead letter for the coordinates of a record."""
    moment = datetime.fromtimestamp((at or record.timestamp()[1]) / 1000, UTC).isoformat(timespec="milliseconds")
    said = {
        "topic": record.topic(), "partition": record.partition(), "offset": record.offset(), "timestamp": moment,
        "stage": "embed", "error": "refused", "reason": "the service refuses the text",
    } | facts  # fmt: skip
    headers = [(f"dlq.{name}", str(value).encode()) for name, value in said.items() if value is not None]
    outgoing = Outgoing(record.value(), record.key(), headers)
    topics.produce(settings, settings.kafka_dead_letter_topic, [outgoing])


def test_a_row_that_is_gone_with_its_entry(job, settings):
    lose(settings, "id-5")
    assert found(audit(settings)) == {("missing", "id-5")}


FORMER_LETTERS = {
    "another time at the same place": {"at": T0 - 86_400_000},
    "the same time at the same place, of another topic": {"topic_id": "AAAAAAAAAAAAAAAAAAAAAA"},
    "no time and no topic": {"timestamp": None},
    "a time that is none": {"timestamp": "yesterday"},
    "another topic's name": {"topic": "another"},
    "the place beside it": {"offset": 10**6},
}


@pytest.mark.parametrize("name", FORMER_LETTERS)
def test_a_dead_letter_of_another_record(job, settings, name):
    letter(settings, record_of(settings, "id-5"), **FORMER_LETTERS[name])
    lose(settings, "id-5")
    report = audit(settings)
    assert found(report) == {("missing", "id-5")}
    assert report.outcomes.dead == 0
    assert report.closes


@pytest.mark.parametrize("facts", [{}, {"topic_id": "known"}, {"topic_id": "known", "timestamp": None}])
def test_a_dead_letter_of_this_very_record(job, settings, facts):
    """Older ones say nothing of the topic's id; one that says it needs no time."""
    said = {name: topics.identity(settings).topic_id if value else value for name, value in facts.items()}
    letter(settings, record_of(settings, "id-5"), **said)
    lose(settings, "id-5")
    forget_progress(settings)
    report = audit(settings)
    assert report.equal, report
    assert report.outcomes.dead == 1


def test_a_dead_letter_of_the_topics_former_life(job, settings):
    """A record that was refused stood where another one stands now, whose row is lost."""
    job.send("id-5", "poison")
    job.run()
    offset = topics.positions(settings)[0].end - 1
    made_anew(settings)
    execute(settings, f"TRUNCATE {TABLE}, {LEDGER}")
    forget_progress(settings)
    job.done.clear()
    for n in range(offset + 1):
        job.send("new", f"text {n}")
    job.run()
    assert audit(settings).equal
    lose(settings, "new")
    report = audit(settings)
    assert record_of(settings, "new").offset() == offset
    assert found(report) == {("missing", "new")}
    assert report.outcomes.dead == 0


def test_a_ledger_that_is_older_than_the_table(job, settings):
    execute(settings, "CREATE TABLE dump AS SELECT * FROM " + LEDGER)
    job.send("id-5", "second 5", partition=1)
    job.run()
    execute(settings, f"TRUNCATE {LEDGER}")
    execute(settings, f"INSERT INTO {LEDGER} SELECT * FROM dump")
    assert found(audit(settings)) == {("stale", "id-5")}


def test_a_table_that_is_older_than_the_ledger(job, settings):
    execute(settings, "CREATE TABLE dump AS SELECT * FROM " + TABLE)
    job.send("id-5", "second 5", partition=1)
    job.send("id-6", "first 6", partition=0, metadata={"n": 7})
    job.run()
    execute(settings, f"TRUNCATE {TABLE}")
    execute(settings, f"INSERT INTO {TABLE} SELECT * FROM dump")
    assert found(audit(settings)) == {("stale", "id-5"), ("changed", "id-6")}


def test_records_behind_an_open_transaction(job, settings):
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(settings.kafka_input_topic, b'{"text": "open"}', b"tx", partition=0, timestamp=T0 - 600_000)
    producer.flush()
    job.send("new", "behind it")
    report = audit(settings)
    assert report.equal
    assert report.behind_transaction == 2
    assert "but for 2 offsets behind an open transaction" in str(report)
    assert "describe-producers" in report.troubles[0]
    producer.abort_transaction(30)
    until(lambda: audit(settings).behind_transaction == 0)
    assert audit(settings).outcomes.in_flight == 1


def test_the_record_at_the_very_offset_of_the_progress(job, settings):
    """It is still to come; the one before it is not."""
    job.send("last", "settled")
    job.send("next", "not yet")
    job.run()
    for id in ("last", "next"):
        lose(settings, id)
    record_progress(settings, 0, stands=record_of(settings, "next").offset())
    report = audit(settings)
    assert found(report) == {("missing", "last")}
    assert report.outcomes.in_flight == 1
    record_progress(settings, 0, stands=record_of(settings, "next").offset() + 1)
    assert found(audit(settings)) == {("missing", "last"), ("missing", "next")}


def test_a_stolen_group_settles_nothing(job, settings):
    """Somebody committed the end of the topic: what the table does not know of has not been done."""
    lose(settings, "id-6")
    assert found(audit(settings)) == {("missing", "id-6")}
    record_progress(settings, 0, stands=3)
    report = audit(settings)
    assert report.kinds == {"lost": 1}, "the progress has counted it"
    assert report.outcomes.in_flight == 1
    forget_progress(settings)
    record_progress(settings, 0, stands=3)
    assert "but for 1 in flight" in str(audit(settings))


def test_a_dead_letter_that_is_on_its_way(job, settings):
    """Dead letters are written when the group commits, after the table's progress."""
    job.send_raw(b"not json")
    job.send("refused", "poison")
    job.run(commit=False, dead_letters=False)
    end = topics.positions(settings)[0].end
    record_progress(settings, 0, stands=end)
    report = audit(settings)
    assert report.equal, report
    assert report.outcomes.in_flight == 2
    job.commit()
    report = audit(settings)
    assert {kind for kind, _ in found(report)} == {"unexplained", "missing"}
    assert report.closes


def test_an_offset_beyond_the_end_settles_nothing(job, settings):
    place = TopicPartition(settings.kafka_input_topic, 0, 10_000_000)
    with Consumer({**topics.client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        consumer.commit(offsets=[place], asynchronous=False)
    job.send("new", "not yet")
    report = audit(settings)
    assert report.equal
    assert report.outcomes.in_flight == 1
    assert "beyond its end" in report.troubles[0]


def test_a_place_that_compaction_emptied(job, settings, monkeypatch):
    """The record is gone, the row has to be there still, as the ledger says."""
    monkeypatch.setattr(proof.records, "is_compacted", lambda *_: True)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(settings.kafka_input_topic, b"{}", partition=1)
    producer.flush()
    producer.abort_transaction(30)
    hole = topics.positions(settings)[1].end - 2
    execute(
        settings,
        f"UPDATE {LEDGER} SET \"offset\" = %s, event_time = event_time + interval '1 s' WHERE id = 'id-5'",
        hole,
    )
    job.commit()
    report = audit(settings)
    assert report.equal, report
    assert report.expired == 1
    execute(settings, f"UPDATE {TABLE} SET text = 'forged' WHERE id = 'id-5'")
    assert found(audit(settings)) == {("stale", "id-5")}
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-5'")
    assert found(audit(settings)) == {("missing", "id-5")}


def test_a_row_whose_record_has_expired(job, settings):
    ends = [TopicPartition(settings.kafka_input_topic, each.partition, each.end) for each in topics.positions(settings)]
    admin = AdminClient(topics.client_config(settings))
    for future in admin.delete_records(ends).values():
        future.result(10)
    execute(settings, f"UPDATE {TABLE} SET text = 'forged' WHERE id = 'id-5'")
    execute(settings, f"UPDATE {TABLE} SET model_revision = 'r0' WHERE id = 'id-6'")
    assert found(audit(settings)) == {("stale", "id-5"), ("wrong_space", "id-6")}


def test_an_id_of_which_nothing_is_left(job, settings):
    """Row, entry and record are gone; the table's progress has counted it."""
    ends = [TopicPartition(settings.kafka_input_topic, each.partition, each.end) for each in topics.positions(settings)]
    admin = AdminClient(topics.client_config(settings))
    for future in admin.delete_records(ends).values():
        future.result(10)
    assert audit(settings).equal
    lose(settings, "id-5")
    report = audit(settings)
    assert report.kinds == {"lost": 1}
    assert "9 ids came in, but the ledger has 8" in str(report)
    assert report.as_facts()["left_out"] == {}


def test_records_that_expired_before_they_were_read(job, settings):
    for n in range(3):
        job.send("unread", f"never read {n}")
    end = topics.positions(settings)[0].end
    admin, place = AdminClient(topics.client_config(settings)), TopicPartition(settings.kafka_input_topic, 0, end - 1)
    admin.delete_records([place])[place].result(10)
    report = audit(settings)
    assert report.expired_unread == 2
    assert "offsets that left the topic before they were read" in str(report)
    assert report.outcomes.in_flight == 1


@pytest.mark.parametrize("kept", ["ledger", "both"])
def test_two_records_with_one_event_time(job, settings, kept):
    """The one with the larger offset counts; the row, or row and ledger, are still the other's."""
    at = job.clock + 1000
    job.send("twice", "one", at=at)
    job.run()
    execute(settings, f"CREATE TABLE former AS SELECT * FROM {TABLE} WHERE id = 'twice'")
    execute(settings, f"CREATE TABLE entry AS SELECT * FROM {LEDGER} WHERE id = 'twice'")
    job.send("twice", "two", at=at)
    job.run()
    assert audit(settings).equal
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'twice'")
    execute(settings, f"INSERT INTO {TABLE} SELECT * FROM former")
    if kept == "both":
        execute(settings, f"DELETE FROM {LEDGER} WHERE id = 'twice'")
        execute(settings, f"INSERT INTO {LEDGER} SELECT * FROM entry")
    assert found(audit(settings)) == {("stale", "twice")}


def test_an_equal_text_with_other_metadata_at_one_event_time(job, settings):
    at = job.clock + 1000
    job.send("twice", "same", at=at, metadata={"n": 1})
    job.send("twice", "same", at=at, metadata={"n": 2})
    job.run()
    assert audit(settings).equal
    execute(settings, f"UPDATE {TABLE} SET metadata = '{{\"n\": 1}}' WHERE id = 'twice'")
    assert found(audit(settings)) == {("changed", "twice")}


def test_the_vector_of_another_text_is_found_by_a_sample_alone(job, settings, monkeypatch):
    """It has the right length and norm; only the service tells what belongs to a text."""

    class Client(UnitEmbedder):
        def __init__(self, *_, **__):
            super().__init__()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(proof, "EmbeddingClient", Client)
    other = f"SELECT embedding FROM {TABLE} WHERE id = 'id-4'"
    execute(settings, f"UPDATE {TABLE} SET embedding = ({other}) WHERE id = 'id-5'")
    assert audit(settings).equal
    assert found(audit(settings, Wishes(sample=100))) == {("bad_vector", "id-5")}


def test_a_row_of_another_tables_model(job, settings):
    vector = UnitEmbedder(4).vector("anything")
    assert np.linalg.norm(vector) == pytest.approx(1)
    execute(
        settings,
        f"UPDATE {TABLE} SET embedding = %s, model_revision = 'other' WHERE id = 'id-5'",
        [float(each) for each in vector],
    )
    assert found(audit(settings)) == {("wrong_space", "id-5")}


def test_what_lost_only_by_its_time_is_late(job, settings):
    """A message and a delete after one whose producer's clock was ahead; those with a timestamp of their own, and
    those that lost against another partition, are superseded."""
    ahead = int(time.time() * 1000) + 1_800_000
    job.send("ahead", "from the future", at=ahead)
    job.send("ahead", "late")
    job.send("ahead")
    job.send("ahead", "said so itself", timestamp=T0 / 1000)
    job.send("ahead", "other partition", partition=1)
    job.run()
    report = audit(settings)
    assert report.equal, report
    assert figures(report) == (19, 9, 6, 3, 1, 0, 0, 0)
    assert report.as_facts()["late"] == 3
