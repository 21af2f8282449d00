"""Ledger places that are no longer right: a topic that was made anew, copied, mirrored or adopted."""

import uuid

import pytest

from embedstream import kafka as topics
from embedstream import store
from embedstream.audit import Wishes, audit
from embedstream.errors import ConfigError
from support.audit import (
    LEDGER,
    TABLE,
    Job,
    copy,
    execute,
    figures,
    filled,
    found,
    lose,
    made_anew,
    own_settings,
)  # fmt: skip
from support.progress import forget_progress, record_progress
from support.traffic import read_topic


@pytest.fixture
def settings(database, kafka):
    return own_settings(database, kafka)


@pytest.fixture
def job(settings):
    return filled(settings)


def moved(settings, job, partitions=3, *, run=True):
    copy(settings, made_anew(settings, partitions))
    job.done.clear()
    if run:
        forget_progress(settings)
        job.run()


def test_a_copy_of_the_topic_at_other_places_is_one_finding(job, settings):
    moved(settings, job)
    report = audit(settings)
    assert set(report.kinds) == {"moved"}
    assert 0 < report.moved <= 9
    assert report.findings == ()
    assert report.closes
    assert report.outcomes.unexplained == 0
    assert report.outcomes.stored == 8
    assert "another topic" in str(report)
    assert "embedstream submit --adopt-topic" in str(report)
    with pytest.raises(ConfigError, match=r"nothing is repaired: .* --adopt-topic"):
        audit(settings, Wishes(repair=True))


UNDELETE = (
    f"INSERT INTO {TABLE} SELECT 'gone', text, embedding, model_name, model_revision, source, message_timestamp,"
    f" embedding_timestamp, metadata, token_count, truncated FROM {TABLE} WHERE id = 'id-5'"
)


@pytest.mark.parametrize(
    ("corruption", "finding"),
    [
        (f"DELETE FROM {TABLE} WHERE id = 'id-5'", ("missing", "id-5")),
        (f"UPDATE {TABLE} SET text = 'first 4' WHERE id = 'id-5'", ("stale", "id-5")),
        (f"UPDATE {TABLE} SET metadata = '{{}}' WHERE id = 'id-5'", ("changed", "id-5")),
        (f"UPDATE {TABLE} SET model_revision = 'r0' WHERE id = 'id-5'", ("wrong_space", "id-5")),
        (f"UPDATE {TABLE} SET embedding = '{{0,0,0,0}}' WHERE id = 'id-5'", ("bad_vector", "id-5")),
        (f"UPDATE {LEDGER} SET content_hash = sha256('x') WHERE id = 'id-5'", ("stale", "id-5")),
        (UNDELETE, ("undeleted", "gone")),
    ],
)  # fmt: skip
def test_behind_moved_places_no_bad_row_hides(job, settings, corruption, finding):
    moved(settings, job)
    execute(settings, corruption)
    report = audit(settings)
    assert finding in found(report)
    assert {kind for kind, id in found(report) if id == finding[1]} == {finding[0]}
    assert "moved" in report.kinds
    assert report.closes


def test_another_topic_by_its_id_is_one_finding(job, settings):
    """What the table has of the former topic says nothing of this one, whatever the offsets are."""
    record_progress(settings, 0, stands=7)
    record_progress(settings, 1, stands=7)
    assert audit(settings).equal
    moved(settings, job, 2, run=False)
    job.commit()
    report = audit(settings)
    assert report.kinds == {"moved": 9}
    assert report.closes
    assert figures(report) == (14, 8, 4, 1, 1, 0, 0, 0)
    assert "is another topic than the one that the table was filled from" in str(report)
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-5'")
    assert found(audit(settings)) == {("missing", "id-5")}
    with pytest.raises(ConfigError, match="nothing is repaired"):
        audit(settings, Wishes(dry_run=True))


FORGET = f"UPDATE {LEDGER} SET topic = '', partition = -1, \"offset\" = -1"
FORGOTTEN = {
    "sound": ((), set()),
    "row gone": ((f"DELETE FROM {TABLE} WHERE id = 'id-5'",), {("missing", "id-5")}),
    "text changed": ((f"UPDATE {TABLE} SET text = 'x' WHERE id = 'id-5'",), {("stale", "id-5")}),
    "metadata changed": ((f"UPDATE {TABLE} SET metadata = '{{}}' WHERE id = 'id-5'",), {("changed", "id-5")}),
    "an older version": (
        (f"UPDATE {LEDGER} SET event_time = event_time - interval '1 s' WHERE id = 'id-5'",), {("stale", "id-5")}
    ),
    "a delete that was undone": (
        (f"UPDATE {LEDGER} SET state = 'live', content_hash = sha256('x') WHERE id = 'gone'",), {("stale", "gone")}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGOTTEN)
def test_places_that_were_forgotten_on_purpose(job, settings, name):
    statements, expected = FORGOTTEN[name]
    execute(settings, FORGET)
    for statement in statements:
        execute(settings, statement)
    report = audit(settings)
    assert found(report) == expected, report
    assert report.closes


def test_forgotten_places_of_a_topic_that_is_read_anew(job, settings):
    execute(settings, FORGET)
    lose(settings, "id-6")
    for partition in (0, 1):
        record_progress(settings, partition, stands=0)
    report = audit(settings)
    assert report.kinds == {"lost": 1}
    assert figures(report) == (14, 7, 4, 1, 1, 0, 1, 0)
    job.done.clear()
    job.run()
    for partition in (0, 1):
        record_progress(settings, partition, stands=7)
    assert figures(audit(settings)) == (14, 8, 4, 1, 1, 0, 0, 0)


def test_a_topic_that_goes_on_under_another_name(job, settings):
    """The same messages, mirrored: places of the other name are no defect, but what they stand for is looked at."""
    mirrored = settings.model_copy(
        update={"kafka_input_topic": f"mirror-{uuid.uuid4().hex[:8]}", "kafka_group_id": uuid.uuid4().hex}
    )
    topics.ensure_topics(mirrored)
    copy(mirrored, read_topic(settings.kafka_bootstrap_servers, settings.kafka_input_topic))
    with store.connect(settings) as connection:
        connection.execute(f"UPDATE {LEDGER} SET topic = 'zzz' WHERE id <> 'id-4'")
        connection.execute(f"UPDATE {LEDGER} SET topic = 'aaa' WHERE id = 'id-4'")
    Job(mirrored).commit()
    report = audit(mirrored)
    assert report.equal, report
    assert report.other_topics == 9
    assert report.closes
    execute(settings, f"DELETE FROM {TABLE} WHERE id IN ('id-4', 'id-5')")
    assert found(audit(mirrored)) == {("missing", "id-4"), ("missing", "id-5")}
