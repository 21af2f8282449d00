from contextlib import contextmanager

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from embedstream import kafka as topics
from embedstream import store
from embedstream.audit import Wishes, audit, proof, reading, records
from embedstream.errors import ConfigError
from support.audit import (
    LEDGER,
    SPACE,
    T0,
    TABLE,
    Job,
    UnitEmbedder,
    execute,
    figures,
    filled,
    found,
    own_settings,
)  # fmt: skip
from support.traffic import read_topic


@pytest.fixture
def settings(database, kafka):
    return own_settings(database, kafka)


@pytest.fixture
def job(settings):
    return filled(settings)


def test_a_table_that_equals_its_topic(job, settings):
    report = audit(settings)
    assert report.equal, report
    assert figures(report) == (14, 8, 4, 1, 1, 0, 0, 0)
    assert report.ids == 9
    assert "closes: 14 = 8 + 4 + 1 + 1 + 0 + 0 + 0" in str(report)


def test_a_second_delivery_changes_nothing(job, settings):
    job.run(again=True)
    assert figures(audit(settings)) == (14, 8, 4, 1, 1, 0, 0, 0)


ROW = (
    f"INSERT INTO {TABLE} SELECT %s, text, embedding, model_name, model_revision, source, message_timestamp,"
    f" embedding_timestamp, metadata, token_count, truncated FROM {TABLE} WHERE id = 'id-7'"
)
ENTRY = (
    f"INSERT INTO {LEDGER} SELECT 'alien', event_time, topic, partition, %s, state, content_hash"
    f" FROM {LEDGER} WHERE id = 'id-7'"
)
OLDER = (
    f"UPDATE {LEDGER} SET event_time = event_time - interval '80 ms', \"offset\" = 0,"
    " content_hash = sha256('first 0') WHERE id = 'id-0'"
)
CORRUPTIONS = {
    "row deleted": ([f"DELETE FROM {TABLE} WHERE id = 'id-1'"], {("missing", "id-1")}),
    "all rows deleted": ([f"TRUNCATE {TABLE}"], {("missing", f"id-{n}") for n in range(8)}),
    "old version restored": ([OLDER, f"UPDATE {TABLE} SET text = 'first 0' WHERE id = 'id-0'"], {("stale", "id-0")}),
    "text changed": ([f"UPDATE {TABLE} SET text = 'forged' WHERE id = 'id-2'"], {("stale", "id-2")}),
    "text and hash changed": (
        [f"UPDATE {TABLE} SET text = 'forged' WHERE id = 'id-2'",
         f"UPDATE {LEDGER} SET content_hash = sha256('forged') WHERE id = 'id-2'"],
        {("stale", "id-2")},
    ),
    "vector zeroed": ([f"UPDATE {TABLE} SET embedding = '{{0,0,0,0}}' WHERE id = 'id-3'"], {("bad_vector", "id-3")}),
    "vector not a number": (
        [f"UPDATE {TABLE} SET embedding[2] = 'NaN' WHERE id = 'id-3'"], {("bad_vector", "id-3")}
    ),
    "vector with a hole": ([f"UPDATE {TABLE} SET embedding[2] = NULL WHERE id = 'id-3'"], {("bad_vector", "id-3")}),
    "ledger removed": ([f"DELETE FROM {LEDGER} WHERE id = 'id-4'"], {("missing", "id-4")}),
    "ledger of a delete removed": ([f"DELETE FROM {LEDGER} WHERE id = 'gone'"], {("missing", "gone")}),
    "orphan added": ([(ROW, "alien")], {("orphan", "alien")}),
    "id that was never sent": ([(ROW, "alien"), (ENTRY, 1)], {("orphan", "alien")}),
    "id beyond the end": ([(ROW, "alien"), (ENTRY, 10**9)], {("orphan", "alien")}),
    "entry without row": ([(ENTRY, 1)], {("orphan", "alien")}),
    "model changed": ([f"UPDATE {TABLE} SET model_name = 'other' WHERE id = 'id-5'"], {("wrong_space", "id-5")}),
    "deleted id back": ([(ROW, "gone")], {("undeleted", "gone")}),
    "deleted id back for good": (
        [(ROW, "gone"), f"UPDATE {LEDGER} SET state = 'live', content_hash = sha256('first 7') WHERE id = 'gone'"],
        {("undeleted", "gone")},
    ),
    "live id deleted": (
        [f"DELETE FROM {TABLE} WHERE id = 'id-6'",
         f"UPDATE {LEDGER} SET state = 'deleted', content_hash = NULL WHERE id = 'id-6'"],
        {("missing", "id-6")},
    ),
    "metadata changed": ([f"UPDATE {TABLE} SET metadata = '{{}}' WHERE id = 'id-6'"], {("changed", "id-6")}),
    "source changed": ([f"UPDATE {TABLE} SET source = NULL WHERE id = 'id-6'"], {("changed", "id-6")}),
    "timestamp changed": ([f"UPDATE {TABLE} SET message_timestamp = now() WHERE id = 'id-6'"], {("changed", "id-6")}),
    "ledger in the future": (
        [f"UPDATE {LEDGER} SET event_time = event_time + interval '9 years' WHERE id = 'id-7'"], {("stale", "id-7")}
    ),
    "offset in the future": (
        [f"UPDATE {LEDGER} SET \"offset\" = 10^9, event_time = event_time + interval '1 s' WHERE id = 'id-7'"],
        {("stale", "id-7")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_reported_exactly_and_repaired(job, settings, name):
    statements, expected = CORRUPTIONS[name]
    for statement in statements:
        execute(settings, *([statement] if isinstance(statement, str) else statement))
    report = audit(settings, Wishes(dry_run=True))
    assert found(report) == expected
    assert report.closes
    assert report.repair.left == 0
    assert found(audit(settings, Wishes(repair=True))) == expected
    job.run()
    repaired = audit(settings)
    assert repaired.equal, repaired
    assert repaired.closes
    rows = execute(settings, f"SELECT id, text, embedding FROM {TABLE} ORDER BY id")
    assert [row[:2] for row in rows] == [(f"id-{n}", f"{'second' if n < 4 else 'first'} {n}") for n in range(8)]
    for _, text, vector in rows:
        assert np.array_equal(np.array(vector, np.float32), job.embedder.vector(text))


def test_all_corruptions_at_once(job, settings):
    names = ("row deleted", "old version restored", "text changed", "vector zeroed", "ledger removed", "orphan added",
             "model changed", "deleted id back", "metadata changed", "ledger in the future")  # fmt: skip
    for statement in (each for name in names for each in CORRUPTIONS[name][0]):
        execute(settings, *([statement] if isinstance(statement, str) else statement))
    report = audit(settings, Wishes(repair=True))
    assert found(report) == {pair for name in names for pair in CORRUPTIONS[name][1]}
    assert report.repair.resent == 9
    job.run()
    assert audit(settings).equal


def test_what_is_sent_again_is_as_it_was(job, settings):
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-4'")
    audit(settings, Wishes(repair=True))
    first, *_, last = [m for m in read_topic(settings.kafka_bootstrap_servers, settings.kafka_input_topic)
                       if m.key() == b"id-4"]  # fmt: skip
    for fact in ("key", "value", "headers", "timestamp", "partition"):
        assert getattr(first, fact)() == getattr(last, fact)()


def test_a_dry_run_changes_nothing(job, settings):
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-4'")
    report = audit(settings, Wishes(dry_run=True))
    assert (report.repair.resent, report.repair.dry_run) == (1, True)
    assert audit(settings).messages == report.messages


def test_what_is_beyond_the_committed_offsets_is_in_flight(job, settings):
    job.send("new", "not taken yet")
    job.send("id-0", "third 0")
    assert figures(audit(settings)) == (16, 8, 4, 1, 1, 0, 2, 0)
    job.run(commit=False)
    report = audit(settings)
    assert figures(report) == (16, 9, 5, 1, 1, 0, 0, 0)
    assert report.equal


def test_a_newer_version_on_its_way_is_not_overtaken_by_a_repair(job, settings):
    execute(settings, f"UPDATE {TABLE} SET embedding = '{{0,0,0,0}}' WHERE id = 'id-4'")
    job.send("id-4", "first 4", at=T0 + 50)
    report = audit(settings, Wishes(repair=True))
    assert (report.repair.resent, report.repair.removed_rows) == (0, 1)
    job.run()
    assert audit(settings).equal


def test_dead_letters_are_accounted_for(job, settings):
    job.send_raw(b"not json")
    job.send("id-0", "poison")
    job.send("new", "poison too")
    job.run()
    report = audit(settings)
    assert report.equal, report
    assert figures(report) == (17, 8, 4, 1, 1, 3, 0, 0)
    assert [tuple(each) for each in report.dead_letters] == [("embed", "refused", 2), ("decode", "not_json", 1)]
    job.run(again=True)
    assert figures(audit(settings)) == (17, 8, 4, 1, 1, 3, 0, 0)


def test_a_dead_letter_that_was_stored_after_all_is_stored(job, settings):
    job.send("new", "poison")
    job.run()
    job.embedder.poison = ()
    job.run(again=True)
    report = audit(settings)
    assert report.equal, report
    assert figures(report) == (15, 9, 4, 1, 1, 0, 0, 0)


def test_a_rejected_record_without_dead_letter_is_unexplained(job, settings):
    job.send_raw(b"not json")
    assert figures(audit(settings)) == (15, 8, 4, 1, 1, 0, 1, 0)
    job.run(dead_letters=False)
    report = audit(settings, Wishes(repair=True))
    assert figures(report) == (15, 8, 4, 1, 1, 0, 0, 1)
    assert {kind for kind, _ in found(report)} == {"unexplained"}
    assert report.repair.left == 1


def test_records_that_left_the_topic(job, settings):
    ends = [TopicPartition(settings.kafka_input_topic, each.partition, each.end) for each in topics.positions(settings)]
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for future in admin.delete_records(ends).values():
        future.result(10)
    report = audit(settings)
    assert report.equal, report
    assert figures(report) == (0,) * 8
    assert report.expired == 9
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-1'")
    execute(settings, f"UPDATE {TABLE} SET embedding = '{{0,0,0,0}}' WHERE id = 'id-2'")
    report = audit(settings, Wishes(repair=True))
    assert found(report) == {("missing", "id-1"), ("bad_vector", "id-2")}
    assert report.repair.left == 2
    assert execute(settings, f"SELECT count(*) FROM {TABLE}") == [(7,)]


def test_ids_of_another_topic_are_counted_apart(job, settings):
    other = Job(settings.model_copy(update={"kafka_input_topic": settings.kafka_input_topic + "-b"}))
    other.clock = job.clock
    other.send("theirs", "from elsewhere")
    other.send("id-0", "newer, from elsewhere")
    other.run()
    report = audit(settings)
    assert report.equal, report
    assert figures(report) == (14, 7, 5, 1, 1, 0, 0, 0)
    assert report.other_topics == 2


def test_aborted_messages_were_never_sent(job, settings):
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": settings.kafka_group_id}
    )
    producer.init_transactions(10)
    for commits in (True, False):
        producer.begin_transaction()
        producer.produce(settings.kafka_input_topic, b'{"text": "in a transaction"}', b"tx", partition=0)
        producer.flush()
        producer.commit_transaction(10) if commits else producer.abort_transaction(10)
    job.run()
    assert figures(audit(settings)) == (15, 9, 4, 1, 1, 0, 0, 0)


def test_several_processes_read_what_one_reads(job, settings, monkeypatch):
    monkeypatch.setattr(reading, "_WORTH_A_PROCESS", 2)
    monkeypatch.setattr(reading.os, "cpu_count", lambda: 3)
    assert figures(audit(settings)) == (14, 8, 4, 1, 1, 0, 0, 0)


def test_a_broker_that_went_away_is_one_clear_error(settings, monkeypatch):
    monkeypatch.setattr(records, "_PATIENCE", 1.0)
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(ConfigError, match="check KAFKA_BOOTSTRAP_SERVERS"):
        list(records.read(away, "t", [records.Range(0, 0, 100)]))


@contextmanager
def meanwhile(monkeypatch, action):
    """Something happens between the reading of the topic and the comparison."""
    read = proof._Proof.read_topics

    def read_and_act(self):
        read(self)
        action()

    with monkeypatch.context() as patch:
        patch.setattr(proof._Proof, "read_topics", read_and_act)
        yield


def test_what_is_written_during_the_audit_is_no_finding(job, settings, monkeypatch):
    def action():
        job.send("id-0", "third 0")
        job.send("new", "brand new")
        job.send("id-1")
        job.run()

    with meanwhile(monkeypatch, action):
        report = audit(settings)
    assert report.equal, report
    assert figures(report) == (14, 6, 6, 1, 1, 0, 0, 0)
    assert report.newer == 3


def test_a_repair_lets_be_what_moved_meanwhile(job, settings, monkeypatch):
    execute(settings, f"UPDATE {TABLE} SET text = 'forged' WHERE id = 'id-2'")
    compare = proof._Proof.compare

    def compare_and_act(self, wishes):
        report = compare(self, wishes)
        job.send("id-2", "third 2")
        job.run()
        return report

    monkeypatch.setattr(proof._Proof, "compare", compare_and_act)
    report = audit(settings, Wishes(repair=True))
    assert (report.repair.resent, report.repair.removed_rows) == (0, 0)
    monkeypatch.undo()
    assert audit(settings).equal


def test_another_topic_of_the_same_name_is_not_taken_for_the_truth(job, settings):
    for n in range(20):
        execute(settings, ROW, f"alien-{n}")
    with pytest.raises(ConfigError, match="nothing is repaired"):
        audit(settings, Wishes(repair=True))
    assert execute(settings, f"SELECT count(*) FROM {TABLE}") == [(28,)]


def test_a_sample_is_embedded_again(job, settings, monkeypatch):
    class Client:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return UnitEmbedder()

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(proof, "EmbeddingClient", Client)
    report = audit(settings, Wishes(sample=100))
    assert report.equal
    assert report.sampled == 8
    execute(settings, f"UPDATE {TABLE} SET embedding = '{{0,0,0,1}}' WHERE id = 'id-3'")
    assert audit(settings).equal
    report = audit(settings, Wishes(sample=100, repair=True))
    assert found(report) == {("bad_vector", "id-3")}
    job.run()
    assert audit(settings, Wishes(sample=100)).equal


def test_the_list_of_findings_is_bounded(job, settings):
    execute(settings, f"TRUNCATE {TABLE}")
    report = audit(settings, Wishes(limit=3))
    assert report.kinds == {"missing": 8}
    assert len(report.findings) == 3
    assert report.as_facts()["left_out"] == {"missing": 5}


def test_no_topic_and_no_table_are_one_clear_error(database, settings):
    with pytest.raises(ConfigError, match="no table"):
        audit(settings)
    store.prepare(settings, SPACE)
    with pytest.raises(ConfigError, match="no topic"):
        audit(settings)
