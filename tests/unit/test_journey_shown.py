"""How a journey is told to people and to programs."""

import json
from datetime import UTC, datetime

import pytest

from embedstream import kafka
from embedstream.audit.report import Outcomes
from embedstream.decode.message import Record
from embedstream.display import as_json
from embedstream.errors import ConfigError
from embedstream.ingest import Kind
from embedstream.journey.commands import _bounds, where
from embedstream.journey.report import At, Entry, Journey, Letter, Looked, Row, Version
from embedstream.journey.scan import _glance
from embedstream.journey.show import OUTCOMES, as_text

MOMENT = datetime(2026, 11, 28, 2, 19, 50, 123_456, tzinfo=UTC)
STORED = Version("a", 0, 7, 0, MOMENT, MOMENT, "message", "stored", "first line\nsecond", 17)
DEAD = Version("a", 0, 6, 0, MOMENT, None, "rejected", "dead", stage="decode", code="not_json", reason="is no JSON")
WAITING = Version("a", 0, 9, 0, None, None, "message", "in_flight")
ROW = Row("first line\nsecond", 17, "web", {"n": 2**70}, MOMENT, MOMENT, "org/model", "r1", 300, True)
WHOLE = Looked(0, 0, 8, 0, 8)


def journey(**facts):
    known = {
        "id": "a", "topic": "t", "table": "e", "versions": (DEAD, STORED), "row": ROW,
        "ledger": Entry("live", MOMENT, "t", 0, 7, 0, MOMENT, "sent"),
        "dead_letters": (Letter(0, 1, MOMENT, "decode", "not_json", "is no JSON", 1, 0, 6, True),),
        "finding": None, "looked_at": (WHOLE,),
    }  # fmt: skip
    return Journey(**{**known, **facts})


def test_all_of_it_in_words():
    assert as_text(journey()).splitlines() == [
        "a is stored: topic t, table e",
        "",
        "where  recorded                     asks      outcome",
        "0:6    2026-11-28 02:19:50.123 UTC  rejected  dead     decode not_json: is no JSON",
        "0:7    2026-11-28 02:19:50.123 UTC  message   stored   first line…",
        "",
        "dead: rejected: in the dead-letter topic",
        "stored: is what stands in the table",
        "",
        "row",
        "  first line…",
        "  17 characters, 300 tokens, truncated: the model read its beginning only",
        "  embedded 2026-11-28 02:19:50.123 UTC by org/model",
        "  message 2026-11-28 02:19:50.123 UTC, source web",
        f'  metadata {{"n": {2**70}}}',
        "",
        "ledger",
        "  live at 0:7, version 2026-11-28 02:19:50.123 UTC, written 2026-11-28 02:19:50.123 UTC",
        "",
        "dead letters",
        "  0:1 2026-11-28 02:19:50.123 UTC, for the record at 0:6: decode not_json: is no JSON",
        "",
        "looked at",
        "  the whole topic",
    ]


def test_all_of_it_for_programs():
    facts = json.loads(as_json(journey().as_facts()))
    assert (facts["known"], facts["explained"], facts["complete"]) == (True, True, True)
    assert [(each["partition"], each["offset"], each["outcome"]) for each in facts["versions"]] == [
        (0, 6, "dead"), (0, 7, "stored")
    ]  # fmt: skip
    assert facts["versions"][1]["recorded"] == "2026-11-28T02:19:50.123456+00:00"
    assert facts["row"]["metadata"] == {"n": 2**70}
    assert facts["ledger"]["origin"] == "sent"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"row": None, "ledger": Entry("deleted", MOMENT, "t", 0, 7, 0, MOMENT, "sent")}, "a is deleted: "),
        ({"row": None, "ledger": None}, "a has no row: "),
        ({"row": None, "ledger": None, "versions": (WAITING,)}, "a has no row yet: "),
        ({"finding": "missing"}, "a is not what the topic says (missing; see embedstream audit): "),
        ({"row": None, "ledger": None, "versions": (), "dead_letters": ()}, "nothing is known of a: "),
        ({"row": None, "ledger": None, "versions": (), "dead_letters": (), "looked_at": (Looked(0, 4, 8, 0, 8),)},
         "nothing is known of a in what was looked at: "),
        ({"id": "\x1b[2Ja\nb"}, "\ufffd[2Ja\ufffdb is stored: "),
    ],
)  # fmt: skip
def test_the_first_line_says_how_it_stands(facts, says):
    assert as_text(journey(**facts)).startswith(says)


def test_what_was_not_looked_at_is_never_passed_over():
    looked = (WHOLE, Looked(1, 4, 9, 2, 9), Looked(2, 5, 5, 0, 5), Looked(3, 0, 0, 0, 0))
    found = journey(looked_at=looked)
    assert not found.complete
    assert as_text(found).partition("looked at\n")[2].splitlines() == [
        "  partition 0: all of it, offsets 0 to 8",
        "  partition 1: offsets 4 to 9 of offsets 2 to 9",
        "  partition 2: nothing of offsets 0 to 5",
        "  partition 3: all of it, offsets 0 to 0",
        "  what stands elsewhere is not known: --all looks at the whole topic",
    ]


def test_what_is_not_known_is_said():
    row = Row(None, None, None, None, None, MOMENT, "m", "r", 3, False, chunks=2)
    text = as_text(journey(row=row, ledger=Entry("live", MOMENT, "", -1, -1, 0, MOMENT, "forgotten")))
    assert "(text not known)\n  unknown characters, 3 tokens in 2 chunks" in text
    assert "message at a time that is not known, no source" in text
    assert "live at no place" in text
    assert "the topic was read anew since" in text


def test_a_place_in_words():
    versions = (STORED, Version("b", 0, 7, 1, MOMENT, MOMENT, "delete", "deleted"))
    lines = as_text(At("t", "e", 0, 7, versions=versions)).splitlines()
    assert lines[0] == "0:7 of topic t"
    assert lines[2].split() == ["where", "recorded", "id", "asks", "outcome"]
    assert as_text(At("t", "e", 0, 7, "expired")) == "0:7 of topic t has left the topic"


def test_every_outcome_has_its_meaning():
    audited = set(Outcomes._fields)
    assert audited <= OUTCOMES.keys()
    assert OUTCOMES.keys() - audited == {"unchanged", "behind_transaction", "expired"}
    assert set(Kind.__args__) - {"rejected"} <= OUTCOMES.keys()


@pytest.mark.parametrize(
    ("sizes", "limit", "shares"),
    [
        ({0: 5, 1: 7}, None, {0: 5, 1: 7}),
        ({0: 5, 1: 100}, 20, {0: 5, 1: 15}),
        ({0: 100, 1: 100}, 20, {0: 10, 1: 10}),
        ({0: -3, 1: 8}, 4, {0: 0, 1: 4}),
        ({}, 4, {}),
    ],
)
def test_a_limit_is_shared_as_evenly_as_the_sizes_allow(sizes, limit, shares):
    assert kafka.shares(sizes, limit) == shares


@pytest.mark.parametrize(
    ("id", "key", "value", "may"),
    [
        ("a", b"a", b"{}", True),
        ("a", b"b", b'{"id": "a"}', True),
        ("a", b"b", b'{"id": "b", "text": "\\n"}', False),
        ("a", b"b", b'{"id": "\\u0061"}', True),
        ("a/b", b"b", b'{"id": "a\\/b"}', True),
        ("t-0-7", None, b"{}", True),
        ("t-0-8", None, None, False),
    ],
)
def test_a_glance_leaves_out_no_record_that_may_be_about_the_id(id, key, value, may):
    assert _glance(id)(Record(key, value, "t", 0, 7, 0)) is may


def test_what_contradicts_itself_is_refused():
    with pytest.raises(ConfigError, match="name an id, or a place"):
        where(None)
    with pytest.raises(ConfigError, match="name an id, or a place"):
        where("a", at="0:1")
    with pytest.raises(ConfigError, match="--all looks at the whole topic"):
        _bounds(1, None, None, all_=True)
    assert _bounds(None, None, None, all_=False).limit == 1_000_000
    assert _bounds(None, None, None, all_=True) == (None, None, None, True)
