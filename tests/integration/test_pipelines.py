"""Pipelines with a mapping, from the topic to the audit."""

import json

import pytest

from embedstream import embedding, store
from embedstream.audit import Wishes, audit
from embedstream.decode.spec import Chunks, Decoding
from embedstream.errors import ConfigError
from support.audit import TABLE, Job, execute, found, own_settings
from support.tokenizers import words

COMMENTS = Decoding(
    each="value.comments", where="item.kind != 'internal'", delete="item.gone",
    id=["value.ticket", "item.n"], text="item.body", metadata={"ticket": "value.ticket"},
)  # fmt: skip
ROWS = Decoding(envelope="debezium", text="value.body", metadata={"lang": "value.lang"})
PARTS = [f"This is part {n} of a document, and a chunk has no room for another." for n in range(8)]
CUT = Decoding(text="value.body", metadata={"lang": "value.lang"}, chunks=Chunks(tokens=16))
TITLED = Decoding(
    envelope="debezium", text="value.body", metadata={"lang": "value.lang"},
    chunks=Chunks(tokens=32, prefix="value.title"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch):
    """No service is asked for it."""
    monkeypatch.setattr(embedding, "read_tokenizer", lambda *_: words())


@pytest.fixture
def job(database, kafka):
    """Makes the job of a pipeline."""

    def make(decoding):
        settings = own_settings(database, kafka).model_copy(
            update={"decoding": decoding, "version_by": decoding.version_by}
        )
        job = Job(settings)
        job.begin()
        return job

    return make


def comments(*items):
    names = ("n", "body", "kind", "gone")
    return json.dumps({"ticket": 7, "comments": [dict(zip(names, item, strict=False)) for item in items]}).encode()


def change(id, op="u", before=None, **row):
    return json.dumps({"before": before, "after": {"id": id, **row} if op != "d" else None, "op": op}).encode()


def rows(job):
    return execute(job.settings, f"SELECT id, text FROM {TABLE} ORDER BY id")


def test_the_books_close_over_records_of_which_several_messages_come_or_none(job):
    job = job(COMMENTS)
    job.send_raw(comments([1, "one"], [2, "a note", "internal"], [3, "three"]))
    job.send_raw(comments([1, "one again"], [3, None, None, True]))
    job.send_raw(comments([2, "a note", "internal"]))
    job.send_raw(comments([4, "four"], [5, "poison"]))
    job.send_raw(comments([6, 6]))
    job.run()
    assert rows(job) == [("7:1", "one again"), ("7:4", "four")]
    report = audit(job.settings)
    assert (report.messages, report.exploded, report.equal, report.closes) == (5, 3, True, True)
    outcomes = report.outcomes._asdict()
    assert {name: number for name, number in outcomes.items() if number} == {
        "stored": 2, "superseded": 2, "deleted": 1, "filtered": 1, "dead": 2,
    }  # fmt: skip
    execute(job.settings, f"DELETE FROM {TABLE} WHERE id = '7:4'")
    assert found(audit(job.settings)) == {("missing", "7:4")}
    audit(job.settings, Wishes(repair=True))
    job.run()
    assert audit(job.settings).equal


def test_a_text_that_the_source_left_out_is_kept_and_the_audit_knows(job):
    job = job(ROWS)
    for value in (change(1, "c", body="long", lang="de"), change(1, body="__debezium_unavailable_value", lang="en")):
        job.send_raw(value, b'{"id": 1}')
        job.run()
    assert execute(job.settings, f"SELECT text, metadata FROM {TABLE}") == [("long", {"lang": "en"})]
    assert job.embedder.embedded == ["long"]
    assert audit(job.settings).equal
    execute(job.settings, f"UPDATE {TABLE} SET text = 'another'")
    assert found(audit(job.settings)) == {("stale", "1")}


def test_a_row_whose_key_changes_leaves_no_row_under_its_former_one(job):
    job = job(Decoding(envelope="maxwell", text="value.body", id="value.id"))
    change = {"database": "d", "table": "t", "type": "insert", "ts": 1_764_000_000, "data": {"id": 1, "body": "one"}}
    job.send_raw(json.dumps(change).encode(), b'{"database":"d","table":"t","pk.id":1}')
    job.run()
    change |= {"type": "update", "data": {"id": 2, "body": "two"}, "old": {"id": 1, "body": "one"}}
    job.send_raw(json.dumps(change).encode(), b'{"database":"d","table":"t","pk.id":1}')
    job.run()
    assert rows(job) == [("2", "two")]
    report = audit(job.settings)
    assert (report.equal, report.closes, report.exploded) == (True, True, 1)


def test_a_row_of_an_older_mapping_is_named_and_read_again(job):
    first = job(Decoding(text="value.title"))
    for n in range(6):
        value = {"title": f"title {n}", "body": f"title {n}" if n < 3 else f"body {n}"}
        first.send_raw(json.dumps(value).encode(), b"id-%d" % n)
    first.run()
    assert audit(first.settings).equal
    first.settings = first.settings.model_copy(update={"decoding": Decoding(text="value.body")})
    first.begin()
    report = audit(first.settings)
    assert report.kinds == {"older_mapping": 3}
    assert any("apply --replay" in trouble for trouble in report.troubles)
    first.send_raw(json.dumps({"body": "new"}).encode(), b"id-6")
    first.run()
    assert audit(first.settings).kinds == {"older_mapping": 3}
    first.embedder.embedded.clear()
    first.begin(replays=True)
    first.run()
    assert sorted(first.embedder.embedded) == ["body 3", "body 4", "body 5"]
    assert audit(first.settings).equal
    with store.connect(first.settings) as connection:
        assert store.read_counts(connection, first.settings).are_sound


def test_ids_that_a_new_mapping_gives_no_more_are_orphans_after_a_replay(job):
    pipeline = job(Decoding(text="value.title"))
    pipeline.send_raw(b'{"title": "one", "n": 5}', b"old")
    pipeline.run()
    pipeline.settings = pipeline.settings.model_copy(update={"decoding": Decoding(text="value.title", id="value.n")})
    pipeline.begin(replays=True)
    pipeline.run()
    assert found(audit(pipeline.settings)) == {("orphan", "old")}
    audit(pipeline.settings, Wishes(repair=True))
    assert rows(pipeline) == [("5", "one")]
    assert audit(pipeline.settings).equal


def write(job, id, *parts, **fields):
    body = "\n\n".join(parts)
    job.send_raw(json.dumps({"body": body, **fields}).encode(), id.encode())


def test_the_chunks_of_a_document_are_those_of_its_newest_text_until_it_is_gone(job):
    job = job(CUT)
    write(job, "a", *PARTS)
    write(job, "b", *PARTS[:2])
    job.run()
    assert audit(job.settings).equal
    job.embedder.embedded.clear()
    write(job, "a", *PARTS[:4], "A part that is new.", *PARTS[4:])
    job.run()
    assert job.embedder.embedded == ["A part that is new."]
    assert [text for _, text in sorted(rows(job))][-1] == PARTS[1]
    assert audit(job.settings).equal
    write(job, "a", "Short now.")
    write(job, "b", " ")
    job.run()
    assert execute(job.settings, f"SELECT id, text FROM {TABLE} ORDER BY id, seq") == [
        ("a", "Short now."), ("b", PARTS[0]), ("b", PARTS[1])
    ]  # fmt: skip
    for id in ("a", "b"):
        job.send_raw(None, id.encode())
    job.run()
    assert rows(job) == execute(job.settings, f"SELECT id FROM {TABLE}_documents") == []
    report = audit(job.settings)
    assert (report.equal, report.closes, report.outcomes.dead) == (True, True, 1)


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (f"DELETE FROM {TABLE} WHERE id = 'a' AND seq = 3", "bad_chunks"),
        (f"UPDATE {TABLE} SET start = start + 1 WHERE id = 'a' AND seq = 3", "bad_chunks"),
        (f"UPDATE {TABLE} SET id = 'a' WHERE id = 'b' AND seq = 8", "bad_chunks"),
        (f"UPDATE {TABLE} SET embedding = embedding * 2 WHERE id = 'a' AND seq = 3", "bad_vector"),
        (f"UPDATE {TABLE} SET model_revision = 'r0' WHERE id = 'a' AND seq = 3", "wrong_space"),
        (f"UPDATE {TABLE}_documents SET text = text || '!' WHERE id = 'a'", "stale"),
        (f"UPDATE {TABLE}_documents SET metadata = '{{}}' WHERE id = 'a'", "changed"),
        (f"DELETE FROM {TABLE}_documents WHERE id = 'a'", "bad_chunks"),
        (f"DELETE FROM {TABLE} WHERE id = 'a'", "bad_chunks"),
    ],
)
def test_what_is_wrong_with_a_document_is_found_and_repaired(job, harm, kind):
    job = job(CUT)
    write(job, "a", *PARTS, lang="en")
    write(job, "b", *PARTS, "One more.", lang="en")
    job.run()
    execute(job.settings, "CREATE OR REPLACE FUNCTION times(a real[], b integer) RETURNS real[] LANGUAGE sql AS "
            "'SELECT array_agg(x * b) FROM unnest(a) AS x'")  # fmt: skip
    execute(job.settings, harm.replace("embedding * 2", "times(embedding, 2)"))
    assert (kind, "a") in found(audit(job.settings))
    audit(job.settings, Wishes(repair=True))
    job.run()
    assert audit(job.settings).equal


def test_another_title_over_a_long_text_that_the_source_left_out(job):
    job = job(TITLED)
    key = b'{"id": 1}'
    job.send_raw(change(1, "c", body=PARTS[0], title="One", lang="de"), key)
    job.run()
    job.send_raw(change(1, body="__debezium_unavailable_value", title="Two", lang="en"), key)
    job.run()
    assert job.embedder.embedded == [f"One\n\n{PARTS[0]}", f"Two\n\n{PARTS[0]}"]
    assert execute(job.settings, f"SELECT prefix, text, metadata FROM {TABLE}_documents") == [
        ("Two", PARTS[0], {"lang": "en"})
    ]
    assert audit(job.settings).equal


def test_a_table_is_pinned_to_how_its_texts_are_cut(job):
    pipeline = job(CUT)
    other = pipeline.settings.model_copy(update={"decoding": CUT.model_copy(update={"chunks": Chunks(tokens=20)})})
    with pytest.raises(ConfigError, match=r"holds chunks of texts .*16 tokens.*20 tokens"):
        Job(other)
