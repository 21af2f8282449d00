"""The tools for agents over a real topic and a real table."""

import pytest

from embedstream import embedding
from embedstream.audit import audit
from embedstream.decode.spec import Chunks, Decoding
from support.audit import Job, filled, lose, own_settings
from support.mcp import agent, facts, parts_of, refusal
from support.tokenizers import words


@pytest.fixture
def settings(database, kafka):
    return own_settings(database, kafka)


@pytest.fixture
def parts(settings):
    parts = parts_of(settings)
    yield parts
    parts.close()


@pytest.fixture
def job(settings):
    return filled(settings)


@pytest.fixture
def call(job, parts):
    return agent(parts, writes=True)


def poison(job):
    job.send("bad", "poison")
    job.send_raw(b"no json", key=b"broken")
    job.run()


def test_a_search_by_words(call):
    answer = facts(
        call("search", query="second", mode="keyword", where={"field": "id", "op": "prefix", "value": "id-"})
    )
    assert {each["id"] for each in answer["hits"]} == {"id-0", "id-1", "id-2", "id-3"}
    assert answer["as_of"].keys() == {"0", "1"}


def test_a_message_as_it_stands(call):
    answer = facts(call("get_message", id="id-6"))
    assert (answer["text"], answer["start"], answer["characters"], answer["tokens"]) == ("first 6", 0, 7, 2)
    assert (answer["metadata"], answer["chunks"], answer["note"]) == ({"n": 6, "wide": "a\\b\t"}, None, None)
    assert answer["model"] == "org/model"
    assert "has no row nobody: where_is tells" in refusal(call("get_message", id="nobody"))


def test_a_long_message_is_read_on_from_where_it_was_cut(call, job):
    text = "".join(f"{number:06}" for number in range(10_000))
    job.send("long", text)
    job.run()
    read, start = "", 0
    while start < len(text):
        answer = facts(call("get_message", id="long", start=start))
        assert (answer["note"] is None) == (start + len(answer["text"]) == len(text))
        read, start = read + answer["text"], start + len(answer["text"])
    assert read == text


def test_a_document_of_chunks_is_one_message(settings, monkeypatch):
    monkeypatch.setattr(embedding, "read_tokenizer", lambda *_: words())
    decoding = Decoding(text="value.text", chunks=Chunks(tokens=16))
    job = Job(settings.model_copy(update={"decoding": decoding}))
    job.send("doc", " ".join(f"This is part {number} of a document that is long." for number in range(8)))
    job.run()
    call = agent(parts_of(job.settings))
    answer = facts(call("get_message", id="doc"))
    assert answer["text"].startswith("This is part 0 of")
    assert answer["chunks"] > 1
    assert len(facts(call("describe"))["tables"]) == 1
    assert facts(call("where_is", id="doc"))["stored"]


def test_the_journey_of_an_id_and_of_a_place(call):
    answer = facts(call("where_is", id="id-0"))
    assert [(each["place"], each["outcome"]) for each in answer["versions"]] == [
        ("0:0", "superseded"), ("0:4", "stored")
    ]  # fmt: skip
    assert answer["words"].startswith("id-0 is stored: topic ")
    assert (answer["known"], answer["explained"], answer["complete"], answer["stored"]) == (True, True, False, True)
    answer = facts(call("where_is", partition=0, offset=4))
    assert [each["outcome"] for each in answer["versions"]] == ["stored"]
    assert facts(call("where_is", partition=0, offset=99))["presence"] == "not_yet"
    assert not facts(call("where_is", id="nobody", everywhere=True))["known"]


def test_hidden_texts_are_hidden_in_every_answer(settings, job):
    call = agent(parts_of(settings.model_copy(update={"console_hide_texts": True})))
    answers = [
        call("where_is", id="id-0"), call("where_is", partition=0, offset=4), call("get_message", id="id-0"),
        call("search", query="second", mode="keyword"),
    ]  # fmt: skip
    for answer in answers:
        assert "CONSOLE_HIDE_TEXTS" in facts(answer)["note"]
        assert "second 0" not in answer.content[0].text


def test_dead_letters_and_how_many_of_which_kind(call, job):
    assert facts(call("list_dead_letters")) == {"count": 0, "kinds": [], "dead_letters": [], "note": None}
    poison(job)
    answer = facts(call("list_dead_letters", limit=1))
    assert (answer["count"], len(answer["dead_letters"]), answer["note"]) == (2, 1, "the newest 1 of 2")
    assert {each["stage"] for each in answer["kinds"]} == {"decode", "embed"}
    (letter,) = facts(call("list_dead_letters", stage="decode"))["dead_letters"]
    assert (letter["code"], letter["origin"]) == ("not_json", "0:9")
    assert facts(call("list_dead_letters", code="not_json", since="1h"))["count"] == 1


def test_dead_letters_are_replayed_where_that_is_not_a_rehearsal(call, job):
    poison(job)
    answer = facts(call("replay_dead_letters", stage="embed"))
    assert (answer["dry_run"], answer["sent"], len(answer["records"])) == (True, 1, 1)
    before = len(list(job.messages()))
    assert facts(call("replay_dead_letters", all=True, dry_run=False))["sent"] == 2
    assert len(list(job.messages())) == before + 2
    answer = facts(call("replay_dead_letters", all=True, dry_run=False))
    assert (answer["sent"], answer["already_replayed"]) == (0, 2)
    assert "say which dead letters" in refusal(call("replay_dead_letters"))
    assert "write PARTITION:OFFSET" in refusal(call("replay_dead_letters", places=["first"]))


def test_a_repair_mends_where_that_is_not_a_rehearsal(call, job, settings):
    lose(settings, "id-6")
    answer = facts(call("repair"))
    assert (answer["dry_run"], answer["equal"], answer["resent"]) == (True, False, 1)
    assert not audit(settings).equal
    assert facts(call("repair", dry_run=False))["resent"] == 1
    job.run()
    answer = facts(call("repair"))
    assert (answer["equal"], answer["kinds"]) == (True, {})


def test_what_there_is_to_search(call):
    (table,) = facts(call("describe"))["tables"]
    assert (table["rows"], table["rows_looked_at"], table["model"], table["dimension"]) == (8, 8, "org/model", 4)
    assert table["first_message"] < table["last_message"]
    fields = {each["field"]: each for each in table["metadata"]}
    assert (fields["metadata.n"]["rows"], fields["metadata.n"]["types"]) == (4, ["number"])
    assert table["trouble"] is None


def test_the_status_of_the_pipeline(call):
    answer = facts(call("status"))
    assert (answer["rows"], answer["unread"], answer["dead_letters"]) == (8, 0, 0)
    assert answer["away"].keys() == {"jobmanager", "service"}


def test_before_there_is_a_table(parts):
    call = agent(parts)
    (table,) = facts(call("describe"))["tables"]
    assert (table["rows"], table["model"]) == (None, None)
    assert table["trouble"]
    assert refusal(call("get_message", id="a"))
    assert refusal(call("where_is", id="a"))
