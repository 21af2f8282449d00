"""What `embedstream forget` deletes, and what it says is left."""

import json
import threading
import time

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from embedstream import embedding
from embedstream.decode.spec import Chunks, Decoding, Formats
from embedstream.display import as_json
from embedstream.errors import ConfigError
from embedstream.forget import forget
from embedstream.forget.show import as_text
from embedstream.journey.scan import Bounds
from support.audit import TABLE, Job, execute, filled, own_settings
from support.tokenizers import words
from support.traffic import read_topic


@pytest.fixture
def settings(database, kafka):
    return own_settings(database, kafka)


@pytest.fixture
def job(settings):
    job = filled(settings)
    job.begin()
    return job


def while_it_runs(job, action):
    """The job takes what comes meanwhile."""
    done = threading.Event()

    def run():
        while not done.is_set():
            job.run()
            time.sleep(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        return action()
    finally:
        done.set()
        thread.join()


def places(kept):
    return [f"{each.partition}:{each.offset}" for each in kept.copies]


def test_a_row_is_gone_and_what_is_left_of_its_text_is_named(job, settings):
    job.send("id-1", "poison", partition=1)
    job.run()
    found = while_it_runs(job, lambda: forget(settings, "id-1"))
    assert (found.had_row, found.gone, found.outcome) == (True, True, "deleted")
    assert execute(settings, f"SELECT id FROM {TABLE} WHERE id = 'id-1'") == []
    assert (found.partition, found.offset) == (1, 7)
    assert found.gone_at is not None
    assert places(found.topic) == ["1:0", "1:4", "1:6"]
    assert all(each.keyed for each in found.topic.copies)
    assert (found.topic.cleanup_policy, found.topic.retention_ms) == ("delete", 30 * 86_400_000)
    assert (places(found.dead_letters), found.dead_letters.retention_ms) == (["0:0"], -1)
    assert TABLE in [each.name for each in found.relations]
    assert not any(each.vacuumed for each in found.relations)
    text = as_text(found)
    assert text.startswith("id-1: the row is gone, ")
    assert "at 1:0, 1:4, 1:6: until its segments are older than 30 d 0 h (retention.ms), the last not before " in text
    assert f"topic {settings.kafka_dead_letter_topic} at 0:0: for ever (retention.ms is -1)" in text
    assert "dead rows, never vacuumed yet" in text
    assert "its replicas and its backups" in text
    facts = json.loads(as_json(found.as_facts()))
    assert facts["topic"]["copies"][0]["offset"] == 0
    assert facts["gone_at"].endswith("+00:00")


def test_a_vacuum_is_seen(job, settings):
    execute(settings, f"ALTER TABLE {TABLE} SET (autovacuum_enabled = false)")
    found = while_it_runs(job, lambda: forget(settings, "id-1"))
    assert f"{TABLE}, as dead rows until vacuum" in as_text(found)
    execute(settings, f"VACUUM {TABLE}")
    again = while_it_runs(job, lambda: forget(settings, "id-1"))
    (table,) = (each for each in again.relations if each.name == TABLE)
    assert table.last_vacuum > found.gone_at
    assert as_text(again).startswith("id-1: there was no row, ")


def test_without_a_job_the_row_is_there_at_the_time_out(job, settings):
    found = forget(settings, "id-1", timeout=0.5)
    assert (found.had_row, found.gone, found.gone_at, found.outcome) == (True, False, None, "in_flight")
    text = as_text(found)
    assert text.startswith(f"id-1: its row is not known to be gone from table {TABLE}\n")
    assert "in flight: the pipeline has not taken it yet" in text


def test_a_delete_that_a_newer_version_survives(job, settings):
    job.send("id-1", "from a clock that is ahead", at=int(time.time() * 1000) + 600_000, partition=1)
    job.run()
    found = while_it_runs(job, lambda: forget(settings, "id-1"))
    assert (found.gone, found.outcome) == (False, "late")
    assert "lost against a message before it" in as_text(found)


def test_the_delete_goes_where_the_version_that_stands_came_from(job, settings):
    """As compaction and the order by record need it, whoever chose the partition."""
    for number in (0, 1):
        job.send(f"id-{number}", "again", partition=1 - number)
    job.run()
    found = [while_it_runs(job, lambda id=id: forget(settings, id)) for id in ("id-0", "id-1")]
    assert [(each.partition, each.gone) for each in found] == [(1, True), (0, True)]


def test_what_was_not_looked_at_is_said(job, settings):
    found = while_it_runs(job, lambda: forget(settings, "id-1", bounds=Bounds(partition=0)))
    assert (found.gone, found.complete) == (True, False)
    assert "partition 1: nothing of offsets 0 to 7" in as_text(found)


def test_a_compacted_topic(database, kafka):
    settings = own_settings(database, kafka)
    admin, topic = AdminClient({"bootstrap.servers": kafka}), settings.kafka_input_topic
    admin.create_topics([NewTopic(topic, 2, 1, config={"cleanup.policy": "compact"})])[topic].result(10)
    job = filled(settings)
    job.begin()
    job.send_raw(b'{"id": "other", "text": "x"}', b"a key of its own")
    job.run()
    assert "at 1:0, 1:4: until it is compacted" in as_text(while_it_runs(job, lambda: forget(settings, "id-1")))
    found = while_it_runs(job, lambda: forget(settings, "other"))
    assert found.gone
    assert "compaction does not remove those whose key is another" in as_text(found)


def test_a_document_in_chunks_is_gone_from_both_relations(settings, monkeypatch):
    monkeypatch.setattr(embedding, "read_tokenizer", lambda *_: words())
    job = Job(settings.model_copy(update={"decoding": Decoding(text="value.body", chunks=Chunks(tokens=16))}))
    job.begin()
    body = " ".join(f"This is part {n} of a document, and a chunk has no room for another." for n in range(8))
    job.send_raw(json.dumps({"body": body}).encode(), b"doc")
    job.run()
    found = while_it_runs(job, lambda: forget(job.settings, "doc"))
    assert (found.had_row, found.gone) == (True, True)
    assert {TABLE, f"{TABLE}_documents"} <= {each.name for each in found.relations}
    assert execute(settings, f"SELECT count(*) FROM {TABLE}") == [(0,)]


@pytest.mark.parametrize(
    ("decoding", "id", "says"),
    [
        (Decoding(text="value.body", id="value.n"), "7", "an id needs value.n, which a delete without a value"),
        (Decoding(each="value.parts", id=["key", "item.n"], text="item.text"), "k:1", "an id needs item.n"),
        (
            Decoding(format=Formats(key="json"), text="value.body", id="key.n"),
            "x",
            "nothing was sent: the key is not JSON",
        ),
        (Decoding(format=Formats(key="json"), text="value.body", id="key"), '"x"', "taken for that of another id"),
        (Decoding(text="value.body", where="key != 'kept'"), "kept", "would be left out by the mapping"),
        (None, "", "nothing was sent: the value is null"),
    ],
)
def test_an_id_that_no_delete_can_name_is_refused(settings, decoding, id, says):
    job = Job(settings.model_copy(update={"decoding": decoding}))
    with pytest.raises(ConfigError) as raised:
        forget(job.settings, id)
    assert says in str(raised.value)
    assert "delete it at its source" in str(raised.value)
    assert read_topic(settings.kafka_bootstrap_servers, settings.kafka_input_topic) == []
