"""What became of each version of an id, on a real topic and a real table."""

import json
import uuid
from collections import Counter
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from embedstream import embedding, kafka
from embedstream.audit import audit
from embedstream.decode.spec import Chunks, Decoding
from embedstream.errors import ConfigError
from embedstream.journey.scan import Bounds
from embedstream.journey.show import as_text
from embedstream.journey.trace import at, journey
from support.audit import LEDGER, T0, TABLE, Job, execute, filled, lose, made_anew, own_settings
from support.tokenizers import words
from support.traffic import Traffic

EVERYWHERE = Bounds(limit=None, everywhere=True)
COMMENTS = Decoding(
    each="value.comments", where="item.kind != 'internal'", delete="item.gone",
    id=["value.ticket", "item.n"], text="item.body", metadata={"ticket": "value.ticket"},
)  # fmt: skip


@pytest.fixture
def settings(database, kafka):
    return own_settings(database, kafka)


@pytest.fixture
def job(settings):
    return filled(settings)


def mapped(settings, decoding):
    job = Job(settings.model_copy(update={"decoding": decoding, "version_by": decoding.version_by}))
    job.begin()
    return job


def outcomes(found):
    return [(each.place, each.outcome) for each in found.versions]


def forget_records(settings, partition, offset):
    """The broker deletes those before the offset."""
    place = TopicPartition(settings.kafka_input_topic, partition, offset)
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    admin.delete_records([place])[place].result(10)


def test_what_is_stored_and_what_it_superseded(job, settings):
    found = journey(settings, "id-0")
    assert outcomes(found) == [("0:0", "superseded"), ("0:4", "stored")]
    assert [each.text for each in found.versions] == ["first 0", "second 0"]
    assert (found.row.text, found.row.characters, found.row.token_count, found.row.chunks) == ("second 0", 8, 2, None)
    assert (found.ledger.state, found.ledger.offset, found.ledger.origin) == ("live", 4, "sent")
    assert (found.known, found.explained, found.finding) == (True, True, None)
    assert found.versions[0].recorded == datetime.fromtimestamp((T0 + 10) / 1000, UTC)


def test_a_delete_and_what_came_late_for_it(job, settings):
    found = journey(settings, "gone")
    assert [(each.asks, each.outcome) for each in found.versions] == [("message", "late"), ("delete", "deleted")]
    assert found.row is None
    assert found.ledger.state == "deleted"
    assert "gone is deleted" in as_text(found)


def test_a_version_with_the_text_of_the_one_before_it_is_unchanged(job, settings):
    job.send("id-6", "first 6", metadata={"n": 7})
    job.run()
    assert outcomes(journey(settings, "id-6")) == [("0:3", "superseded"), ("0:8", "unchanged")]


def test_dead_letters_of_an_id_with_their_reasons(job, settings):
    job.send("id-0", "poison")
    job.send_raw(b'{"id": "id-0"}', b"another key")
    job.send_raw(b"not json", b"id-0")
    job.run()
    found = journey(settings, "id-0", EVERYWHERE)
    told = {(each.place, each.asks): (each.outcome, each.stage, each.code) for each in found.versions}
    assert told["0:8", "message"] == ("dead", "embed", "refused")
    assert told["0:9", "rejected"] == ("dead", "decode", "text_missing")
    assert told["0:10", "rejected"] == ("dead", "decode", "not_json")
    assert [(each.origin_offset, each.code) for each in found.dead_letters] == [
        (8, "refused"), (9, "text_missing"), (10, "not_json")
    ]  # fmt: skip
    assert [each.place for each in found.versions if not each.keyed] == ["0:9"]
    assert found.row.text == "second 0"


def test_what_the_pipeline_has_not_taken_yet_is_in_flight(job, settings):
    job.send("id-0", "third")
    job.send("new", "on its way")
    job.send_raw(b"not json", b"new")
    assert outcomes(journey(settings, "id-0"))[-1] == ("0:8", "in_flight")
    found = journey(settings, "new")
    assert [(each.asks, each.outcome) for each in found.versions] == [
        ("rejected", "in_flight"), ("message", "in_flight")
    ]  # fmt: skip
    assert "new has no row yet" in as_text(found)


def test_what_is_behind_an_open_transaction(job, settings):
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(settings.kafka_input_topic, b'{"text": "open"}', b"tx", partition=0)
    producer.flush()
    job.send("id-0", "behind it")
    assert outcomes(journey(settings, "tx")) == [("0:8", "behind_transaction")]
    assert outcomes(journey(settings, "id-0"))[-1] == ("0:9", "behind_transaction")
    assert outcomes(at(settings, 0, 8)) == [("0:8", "behind_transaction")]
    producer.abort_transaction(30)


def test_a_record_that_has_left_the_topic(job, settings):
    forget_records(settings, 0, 5)
    found = journey(settings, "id-0")
    assert outcomes(found) == [("0:4", "expired")]
    assert (found.row.text, found.explained, found.ledger.origin) == ("second 0", True, "expired")
    assert at(settings, 0, 4).presence == "expired"


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (f"DELETE FROM {TABLE} WHERE id = 'id-0'", "missing"),
        (f"UPDATE {TABLE} SET text = 'forged' WHERE id = 'id-0'", "stale"),
        (f"UPDATE {TABLE} SET metadata = '{{}}', source = 'x' WHERE id = 'id-0'", "changed"),
        (f"UPDATE {LEDGER} SET event_time = event_time + interval '9 years' WHERE id = 'id-0'", "stale"),
    ],
)
def test_what_nothing_explains_has_the_audit_s_finding(job, settings, statement, finding):
    execute(settings, statement)
    found = journey(settings, "id-0")
    assert {(each.kind, each.id) for each in audit(settings).findings} == {(finding, "id-0")}
    assert (found.finding, found.explained) == (finding, False)
    assert outcomes(found)[-1] == ("0:4", "unexplained")
    assert f"id-0 is not what the topic says ({finding}" in as_text(found)


def test_an_id_that_is_gone_from_table_and_ledger(job, settings):
    lose(settings, "id-5")
    found = journey(settings, "id-5")
    assert (found.finding, found.row, found.ledger) == ("missing", None, None)
    assert outcomes(found) == [("1:2", "unexplained")]


def test_a_rejected_record_without_a_dead_letter(job, settings):
    job.send_raw(b"not json", b"bad")
    job.run(dead_letters=False)
    found = journey(settings, "bad")
    assert outcomes(found) == [("0:8", "unexplained")]
    assert not found.explained


def test_an_id_that_nobody_knows(job, settings):
    found = journey(settings, "never")
    assert (found.known, found.complete, found.versions) == (False, True, ())
    assert as_text(found).startswith("nothing is known of never: topic ")


def test_an_id_is_looked_for_where_its_key_keeps_it(job, settings):
    job.send("id-0", "third", partition=1)
    found = journey(settings, "id-0")
    assert outcomes(found) == [("0:0", "superseded"), ("0:4", "stored")]
    assert [(each.partition, each.is_whole) for each in found.looked_at] == [(0, True), (1, False)]
    assert "partition 1: nothing of offsets 0 to 7" in as_text(found)
    assert "what stands elsewhere is not known" in as_text(found)
    everywhere = journey(settings, "id-0", EVERYWHERE)
    assert outcomes(everywhere)[-1] == ("1:6", "in_flight")
    assert everywhere.complete


def test_where_the_key_does_not_tell_the_id_all_partitions_are_looked_at(job, settings):
    job.send_raw(b'{"id": "own", "text": "one"}', b"a", partition=0)
    job.send_raw(b'{"id": "own", "text": "two"}', b"b", partition=1, at=T0 + 5000)
    job.run()
    found = journey(settings, "own")
    assert outcomes(found) == [("0:8", "superseded"), ("1:6", "stored")]
    assert (found.complete, [each.keyed for each in found.versions]) == (True, [False, False])


def test_what_was_not_looked_at_is_said_and_what_stands_is_explained_all_the_same(job, settings):
    found = journey(settings, "id-0", Bounds(limit=2))
    assert [(each.first, each.end) for each in found.looked_at] == [(6, 8), (6, 6)]
    assert (outcomes(found), found.explained, found.complete) == ([("0:4", "stored")], True, False)
    found = journey(settings, "id-1", Bounds(partition=0))
    assert (outcomes(found), found.explained) == ([("1:4", "stored")], True)
    with pytest.raises(ConfigError, match=r"--partition 9: topic .* has partitions 0, 1"):
        journey(settings, "id-1", Bounds(partition=9))


def test_since_a_time(job, settings):
    since = datetime.fromtimestamp((T0 + 85) / 1000, UTC)  # the ninth message was recorded 90 ms after T0
    assert outcomes(journey(settings, "id-0", Bounds(since=since))) == [("0:4", "stored")]
    assert journey(settings, "never", Bounds(since=datetime.now(UTC))).looked_at[0].first == 8


def test_ids_that_json_writes_otherwise(job, settings):
    for number, id in enumerate(('quo"te', "back\\slash", "sl/ash", "tab\t", "é\U0001f600")):
        job.send_raw(json.dumps({"id": id, "text": "x"}).replace("/", "\\/").encode(), at=T0 + number)
    job.send_raw(b'{"id": 12.50, "text": "x"}', b"a")
    job.send_raw(b'{"text": "x"}', None)
    job.run()
    for id in (
        'quo"te',
        "back\\slash",
        "sl/ash",
        "tab\t",
        "é\U0001f600",
        "12.50",
        f"{settings.kafka_input_topic}-0-14",
    ):
        assert [each.outcome for each in journey(settings, id).versions] == ["stored"], id


def test_a_place_of_the_topic(job, settings):
    assert outcomes(at(settings, 0, 0)) == [("0:0", "superseded")]
    assert [(each.id, each.outcome) for each in at(settings, 0, 4).versions] == [("id-0", "stored")]
    assert [(each.id, each.asks, each.outcome) for each in at(settings, *places_of(job, "gone")[0]).versions] == [
        ("gone", "delete", "deleted")
    ]  # fmt: skip
    assert at(settings, 0, 8).presence == "not_yet"
    assert at(settings, 5, 0).presence == "no_partition"
    assert "is beyond the topic's end" in as_text(at(settings, 0, 8))
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-0'")
    found = at(settings, 0, 4)
    assert (outcomes(found), found.explained) == ([("0:4", "unexplained")], False)


def test_a_topic_that_was_made_anew(job, settings):
    job.begin()
    execute(settings, f"UPDATE {TABLE}_progress SET topic_id = 'AAAAAAAAAAAAAAAAAAAAAA'")
    made_anew(settings)
    found = journey(settings, "id-0")
    assert (found.versions, found.ledger.origin, found.row.text) == ((), "former", "second 0")
    assert "another topic" in found.troubles[0]


def places_of(job, id):
    return [(each.partition(), each.offset()) for each in job.messages() if each.key() == id.encode()]


def comments(*items):
    names = ("n", "body", "kind", "gone")
    return json.dumps({"ticket": 7, "comments": [dict(zip(names, item, strict=False)) for item in items]}).encode()


def test_several_messages_of_a_record(settings):
    job = mapped(settings, COMMENTS)
    job.send_raw(comments([1, "one"], [2, "a note", "internal"], [3, "three"]))
    job.send_raw(comments([1, "one again"], [3, None, None, True]))
    job.send_raw(comments([2, "a note", "internal"]))
    job.send_raw(comments([4, "four"], [5, "poison"]))
    job.run()
    told = {id: [(each.place, each.item, each.outcome) for each in journey(job.settings, id).versions]
            for id in ("7:1", "7:3", "7:4", "7:5")}  # fmt: skip
    assert told == {
        "7:1": [("0:0", 0, "superseded"), ("0:1", 0, "stored")],
        "7:3": [("0:0", 2, "superseded"), ("0:1", 1, "deleted")],
        "7:4": [("0:3", 0, "stored")],
        "7:5": [("0:3", 1, "dead")],
    }
    found = at(job.settings, 0, 3)
    assert [(each.id, each.outcome, each.code) for each in found.versions] == [
        ("7:4", "stored", None), ("7:5", "dead", "refused")
    ]  # fmt: skip
    assert [(each.asks, each.outcome) for each in at(job.settings, 0, 2).versions] == [("filtered", "filtered")]
    assert journey(job.settings, "7:4").dead_letters[0].origin_offset == 3


def change(partition, job, **row):
    value = json.dumps({"before": None, "after": {"id": 1, **row}, "op": "u"}).encode()
    job.send_raw(value, b"1", at=job.clock, partition=partition)
    job.clock += 10
    job.run()


def test_a_text_that_the_source_left_out(settings):
    job = mapped(settings, Decoding(envelope="debezium", text="value.body", version="time"))
    change(0, job, body="one")
    change(1, job, body="two")
    change(0, job, body="__debezium_unavailable_value")
    found = journey(job.settings, "1", EVERYWHERE)
    assert outcomes(found) == [("0:0", "superseded"), ("1:0", "superseded"), ("0:1", "unchanged")]
    assert (found.versions[2].text, found.row.text) == (None, "two")
    part = journey(job.settings, "1", Bounds(partition=0))  # the text came from where this does not look
    assert (outcomes(part), part.explained) == ([("0:0", "superseded"), ("0:1", "stored")], True)
    assert at(job.settings, 0, 1).explained


def test_a_filtered_record_is_found_by_its_key(settings):
    job = mapped(settings, Decoding(text="value.body", where="value.lang == 'en'"))
    job.send_raw(b'{"body": "nein", "lang": "de"}', b"a")
    assert outcomes(journey(job.settings, "a")) == [("0:0", "in_flight")]
    job.run()
    found = journey(job.settings, "a")
    assert [(each.asks, each.outcome) for each in found.versions] == [("filtered", "filtered")]


def test_a_document_in_chunks(settings, monkeypatch):
    monkeypatch.setattr(embedding, "read_tokenizer", lambda *_: words())
    job = mapped(settings, Decoding(text="value.body", chunks=Chunks(tokens=16)))
    parts = [f"This is part {n} of a document, and a chunk has no room for another." for n in range(8)]
    for text in (" ".join(parts[:3]), " ".join(parts)):
        job.send_raw(json.dumps({"body": text}).encode(), b"doc", at=job.clock)
        job.clock += 10
        job.run()
    found = journey(job.settings, "doc")
    assert [each.outcome for each in found.versions] == ["superseded", "stored"]
    assert (found.row.chunks, found.row.unseen, found.row.characters) == (8, 0, len(" ".join(parts)))
    assert " in 8 chunks" in as_text(found)
    execute(settings, f"DELETE FROM {TABLE} WHERE seq = 3")
    assert journey(job.settings, "doc").finding == "bad_chunks"
    execute(settings, f"UPDATE {TABLE} SET start = start + 1 WHERE seq = 4")
    execute(settings, f"UPDATE {TABLE}_documents SET chunks = 7")
    assert journey(job.settings, "doc").finding == "bad_chunks"


def test_a_text_full_of_escapes_does_nothing_to_a_terminal(job, settings):
    job.send_raw(json.dumps({"id": "\u202eevil", "text": "\x1b[31mred\nmore"}).encode(), b"x")
    job.run()
    text = as_text(journey(settings, "\u202eevil"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[31mred…" in text


def test_the_journeys_of_all_ids_add_up_to_the_audit_s_books(settings):
    job = Job(settings)
    traffic = Traffic(14, 8, T0 - 600_000)
    for part in range(3):
        sent = traffic.records(60)
        kafka.produce(settings, settings.kafka_input_topic, sent)
        if part < 2:
            job.run()
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-3'")
    report = audit(settings)
    told, ids = {}, {each.key.decode() for each in traffic.sent if each.key} | set(traffic.ids)
    for id in ids:
        for each in journey(settings, id, EVERYWHERE).versions:
            assert told.setdefault((each.partition, each.offset, each.item), each.outcome) == each.outcome
    for number, (first, end) in kafka.extent(settings, settings.kafka_input_topic).items():
        for offset in range(first, end):
            if not any(place[:2] == (number, offset) for place in told):
                told |= {(number, offset, each.item): each.outcome for each in at(settings, number, offset).versions}
    counted = Counter("stored" if outcome == "unchanged" else outcome for outcome in told.values())
    assert counted == Counter({name: number for name, number in report.outcomes._asdict().items() if number})
    assert {"stored", "superseded", "dead", "in_flight", "unexplained"} <= counted.keys()
