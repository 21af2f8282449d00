"""A submission leaves nothing out: whatever became of table, topic and group since the job before."""

import json
import time
import uuid
from importlib import resources

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from embedstream import kafka as topics
from embedstream import starts, store
from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing
from embedstream.status import parts
from support.player import SPACE, play
from support.postgres import dump, restore
from support.stack import wait

TABLE = "text_message_embeddings"
IDS = {f"id-{number}" for number in range(20)}


@pytest.fixture
def settings(database, kafka):
    name = uuid.uuid4().hex[:8]
    return database.model_copy(
        update={
            "kafka_bootstrap_servers": kafka, "kafka_input_topic": f"in-{name}", "kafka_group_id": f"group-{name}",
            "kafka_dead_letter_topic": f"dead-{name}",
        }
    )  # fmt: skip


@pytest.fixture
def filled(settings):
    """Twenty messages in two partitions, all of them in the table and committed."""
    topics.ensure_topics(settings)
    send(settings, IDS)
    assert play(settings).kinds == {"stored": 20}
    assert stored(settings) == IDS
    return settings


def send(settings, ids):
    now = int(time.time() * 1000)
    records = [
        Outgoing(json.dumps({"text": f"text of {id}"}).encode(), id.encode(), timestamp=now, partition=number % 2)
        for number, id in enumerate(sorted(ids))
    ]
    topics.produce(settings, settings.kafka_input_topic, records)


def execute(settings, *statements):
    with store.connect(settings) as connection:
        for statement in statements:
            connection.execute(statement)


def stored(settings):
    with store.connect(settings) as connection:
        assert store.read_counts(connection, settings).are_sound, "counts of table, ledger and progress differ"
        return {id for (id,) in connection.execute(f"SELECT id FROM {TABLE}")}


def admin(settings):
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})


def test_a_job_that_was_stopped_goes_on_where_it_was(filled):
    send(filled, {"later"})
    run = play(filled)
    assert (run.kinds, run.whys) == ({"stored": 1}, {"where the table stands"})


def test_a_job_that_was_killed_before_its_checkpoint_reads_again_without_embedding(filled):
    send(filled, {f"later-{number}" for number in range(4)})
    play(filled, commits=False)
    run = play(filled)
    assert (run.kinds, run.embedded) == ({"unchanged": 4}, 0)
    assert "where the group stands, the table is at 12" in run.whys


def test_a_new_table_reads_a_topic_whose_group_is_at_its_end(filled):
    other = filled.model_copy(update={"pgvector_table": "another"})
    assert play(other).kinds == {"stored": 20}


def test_two_tables_on_one_topic_and_one_group_need_nothing_of_each_other(filled):
    other = filled.model_copy(update={"pgvector_table": "another"})
    play(other)
    send(filled, {"later-1", "later-2"})
    assert play(filled).kinds == {"stored": 2}
    assert play(other).kinds == {"stored": 2}


DROPPED = [
    "DROP VIEW text_message_vectors", *(f"DROP TABLE {TABLE}{each}" for each in ("", "_ledger", "_space", "_progress")),
]  # fmt: skip
LOSSES = {
    "dropped": DROPPED,
    "progress dropped": [f"DROP TABLE {TABLE}_progress"],
    "truncated": [f"TRUNCATE {TABLE}"],
    "truncated with its ledger": [f"TRUNCATE {TABLE}, {TABLE}_ledger"],
    "all truncated": [f"TRUNCATE {TABLE}, {TABLE}_ledger, {TABLE}_progress"],
    "rows removed": [f"DELETE FROM {TABLE} WHERE id < 'id-15'"],
    "rows removed with their entries": [f"DELETE FROM {TABLE}_ledger WHERE id < 'id-15'"],
}


@pytest.mark.parametrize("how", LOSSES)
def test_what_was_removed_by_hand_is_read_again(filled, how):
    execute(filled, *LOSSES[how])
    run = play(filled)
    assert set(run.starts.values()) == {0}
    assert stored(filled) == IDS


@pytest.mark.parametrize("how", [how for how in LOSSES if "dropped" not in how])
def test_what_was_removed_by_hand_is_told_before_anything_comes(filled, how):
    execute(filled, *LOSSES[how])
    with store.connect(filled) as connection:
        assert store.losses(store.read_counts(connection, filled))


def test_a_partition_of_which_the_table_knows_nothing_any_more_is_unread(filled):
    assert parts.read_queue(filled).standing.log.unread == 0
    execute(filled, f"DELETE FROM {TABLE}_progress WHERE partition = 1")
    assert [each.unread for each in parts.read_queue(filled).standing.log.positions] == [0, 10]


def test_a_table_that_is_new_has_lost_nothing(settings):
    store.prepare(settings, SPACE)
    assert stored(settings) == set()
    topics.ensure_topics(settings)
    assert {start.why for start in starts.begin(settings)} == {"the table has nothing of it"}


def test_rows_whose_record_has_left_the_topic_stay_missing_and_are_told(filled):
    """What can come back comes back; that the rest is gone is not forgotten."""
    parts = [TopicPartition(filled.kafka_input_topic, number, 5) for number in range(2)]
    broker = admin(filled)
    for future in broker.delete_records(parts).values():
        future.result(10)
    execute(filled, f"TRUNCATE {TABLE}")
    play(filled)
    with store.connect(filled) as connection:
        counts = store.read_counts(connection, filled)
    assert (counts.rows, counts.ids) == (10, 20)
    assert not counts.are_sound


def test_a_dump_that_is_restored_brings_its_progress_along(filled, tmp_path):
    dump(filled, tmp_path / "dump")
    send(filled, {f"later-{number}" for number in range(6)})
    play(filled)
    restore(filled, tmp_path / "dump")
    run = play(filled)
    assert (run.kinds, run.whys) == ({"stored": 6}, {"where the table stands"})


def test_a_group_that_is_gone(filled):
    send(filled, {"later"})
    broker = admin(filled)
    for future in broker.delete_consumer_groups([filled.kafka_group_id]).values():
        future.result(10)
    run = play(filled)
    assert (run.kinds, run.embedded) == ({"unchanged": 20, "stored": 1}, 1)


@pytest.mark.parametrize("offset", [11, 10_000_000], ids=["at the end", "beyond the end"])
def test_a_group_in_which_a_stranger_committed(filled, offset):
    send(filled, {"later-1", "later-2"})
    topics.set_offsets(filled, {0: offset, 1: offset})
    assert play(filled).kinds["stored"] == 2


def test_a_group_with_a_member_that_subscribed_is_refused_by_name(filled):
    conf = {
        "bootstrap.servers": filled.kafka_bootstrap_servers,
        "group.id": filled.kafka_group_id,
        "client.id": "intruder",
    }
    with Consumer(conf) as consumer:
        consumer.subscribe([filled.kafka_input_topic])
        wait(lambda: consumer.poll(0.2) or consumer.assignment(), 30, "an assignment")
        with pytest.raises(ConfigError, match=r"intruder at .*KAFKA_GROUP_ID"):
            starts.begin(filled)


def test_a_topic_that_was_made_anew_is_refused_and_adopted(filled):
    recreate(filled)
    send(filled, {"id-1", "new"})
    with pytest.raises(ConfigError, match=r"the topic is .* now.*--adopt-topic"):
        starts.begin(filled)
    run = play(filled, adopts=True)
    assert run.kinds == {"stored": 1, "unchanged": 1}
    assert stored(filled) == IDS | {"new"}
    assert play(filled).kinds == {}


def test_records_of_an_adopted_topic_win_over_stored_versions_of_the_same_time(filled):
    copies = [
        Outgoing(message.value(), message.key(), timestamp=message.timestamp()[1])
        for message in topics.read(filled, filled.kafka_input_topic)
    ]
    recreate(filled)
    topics.produce(filled, filled.kafka_input_topic, copies)
    run = play(filled, adopts=True)
    assert (run.kinds, run.embedded) == ({"unchanged": 20}, 0)
    with store.connect(filled) as connection:
        assert connection.execute(f"SELECT count(*) FROM {TABLE}_ledger WHERE topic = ''").fetchone() == (0,)


def recreate(settings):
    topic, broker = settings.kafka_input_topic, admin(settings)
    for future in broker.delete_topics([topic]).values():
        future.result(10)
    wait(lambda: topic not in broker.list_topics(timeout=10).topics, 20, "the topic to go")
    for future in broker.create_topics([NewTopic(topic, 2, 1)]).values():
        future.result(10)
    wait(lambda: topics.identity(settings).topic_id, 20, "the topic to come")


def test_another_order_of_versions_is_refused_and_taken_with_the_topic_anew(filled):
    by_record = filled.model_copy(update={"version_by": "record"})
    with pytest.raises(ConfigError, match=r"VERSION_BY=time, or .*--adopt-topic"):
        store.prepare(by_record, SPACE)
    assert play(by_record, adopts=True).kinds == {"unchanged": 20}
    ahead = int(time.time() * 1000) + 1_800_000
    topics.produce(by_record, by_record.kafka_input_topic, [
        Outgoing(b'{"text": "ahead"}', b"id-0", timestamp=ahead, partition=0), Outgoing(None, b"id-0", partition=0),
    ])  # fmt: skip
    assert play(by_record).kinds == {"superseded": 1, "deleted": 1}
    with pytest.raises(ConfigError, match="VERSION_BY=record"):
        store.prepare(filled, SPACE)
    assert play(filled, adopts=True).kinds["late"] == 1
    assert stored(filled) == IDS


def test_a_user_with_the_rights_that_doctor_asks_for_may_submit(filled):
    name = f"app_{uuid.uuid4().hex[:8]}"
    execute(
        filled,
        f"CREATE ROLE {name} LOGIN",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE} TO {name}",
        f"GRANT SELECT, INSERT, UPDATE ON {TABLE}_ledger, {TABLE}_progress TO {name}",
        f"GRANT SELECT ON {TABLE}_space TO {name}",
    )
    theirs = filled.model_copy(update={"pgvector_user": name})
    with store.connect(theirs) as connection:
        assert store.lacking_rights(connection, theirs) == []
    send(theirs, {"later"})
    assert play(theirs).kinds == {"stored": 1}
    execute(filled, f"TRUNCATE {TABLE}")
    assert play(theirs).kinds == {"stored": 21}
    execute(filled, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_tables_that_are_gone_are_told_to_who_keeps_the_job(filled):
    execute(filled, *DROPPED)
    with store.connect(filled) as connection:
        assert "is gone" in store.read_forgotten(connection, filled)[0]


def test_a_table_of_an_earlier_version_is_taken_over_at_the_group_s_offsets(filled):
    """As it was left by 1.0: no progress, no id of the table, no order."""
    make_earlier(filled)
    send(filled, {"later"})
    run = play(filled)
    assert run.kinds == {"stored": 1}
    assert run.whys == {"where the group stands: the table is of a version that kept no progress"}
    assert stored(filled) == {*IDS, "later"}
    assert play(filled).whys == {"where the table stands"}


OF_THE_LEDGER = ("id", "event_time", "topic", "partition", '"offset"', "state", "content_hash", "updated_at")


def make_earlier(settings):
    """The very relations that version made, with the rows of today."""
    text = resources.files("support").joinpath("schema_before_progress.sql").read_text(encoding="utf-8")
    keep = {name: f"{TABLE}{name}" for name in ("", "_ledger", "_space")}
    execute(
        settings,
        *(f"CREATE TABLE kept{name} AS TABLE {table}" for name, table in keep.items()),
        *DROPPED,
        text,
        f"INSERT INTO {TABLE} TABLE kept",
        f"INSERT INTO {TABLE}_ledger SELECT {', '.join(OF_THE_LEDGER)} FROM kept_ledger",
        f"INSERT INTO {TABLE}_space (model_name, model_revision, dimension, normalised, max_tokens)"
        " SELECT model_name, model_revision, dimension, normalised, max_tokens FROM kept_space",
    )
