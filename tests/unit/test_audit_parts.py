import json
from datetime import UTC, datetime
from multiprocessing import Pipe

import pytest

from embedstream.audit import Finding, Report, rows
from embedstream.audit.reading import _received, shares
from embedstream.audit.records import Range
from embedstream.audit.report import Dead, Outcomes, Repair
from embedstream.decode.default import decoder
from embedstream.decode.message import Delete, Message, Rules, Version
from embedstream.display import as_json
from embedstream.errors import ConfigError

RULES = Rules("org/model", 1000)
T0 = 1_764_000_000_123


class Stub:
    """A record as confluent-kafka hands it out."""

    def __init__(self, value, key=b"k", headers=None):
        self.facts = {
            "value": value, "key": key, "headers": headers, "topic": "t", "partition": 1, "offset": 7,
            "timestamp": (1, T0),
        }  # fmt: skip

    def __getattr__(self, name):
        return lambda: self.facts[name]


def fields(value, key=b"k"):
    (line,) = rows.sent([Stub(value, key)], decoder(RULES)).splitlines()
    return line.split("\t")


def test_a_message_is_a_line():
    value = json.dumps({"text": "x", "source": "a\tb\\", "metadata": {"p": "c:\\d\n"}, "timestamp": T0 - 1}).encode()
    place, timed, asks, who, when, hash_, source, said, metadata = [fields(value)[:5], *fields(value)[5:]]
    assert (place, timed, asks, who) == (["1", "7", "0", "f", str(T0)], "t", "live", "k")
    assert when == said == "2025-11-24T16:00:00.122000+00:00"
    assert hash_.startswith("\\\\x2d711642b726b044")
    assert source == "a\\tb\\\\"
    assert metadata == '{"p":"c:\\\\\\\\d\\\\n"}'


def test_the_event_time_is_the_earlier_one():
    line = fields(json.dumps({"text": "x", "timestamp": T0 + 1}).encode())
    assert (line[8], line[11]) == ("2025-11-24T16:00:00.123000+00:00", "2025-11-24T16:00:00.124000+00:00")


def test_deletes_and_what_is_rejected():
    assert fields(None)[5:8] == ["f", "deleted", "k"]
    assert fields(b"{}")[5:] == ["f", "rejected", *["\\N"] * 6]


def test_a_message_without_a_timestamp_has_that_of_its_record():
    line = fields(b'{"text": "x"}')
    assert (line[5], line[8], line[11]) == ("f", *["2025-11-24T16:00:00.123000+00:00"] * 2)


def letter(**facts):
    known = {
        "topic": "t", "partition": "0", "offset": "5", "timestamp": "2025-11-24T16:00:00.123Z", "stage": "decode",
        "error": "not_json",
    }  # fmt: skip
    known |= facts
    return Stub(b"x", b"k", [(f"dlq.{name}", value.encode()) for name, value in known.items()])


def test_dead_letters_of_the_topic_are_lines():
    letters = [letter(), letter(topic="other"), letter(offset="-1"), letter(partition="99999999999"), Stub(b"x")]
    assert rows.dead(letters, "t") == f"0\t5\t\\N\t{T0}\t\\N\tdecode\tnot_json\n"


def test_a_dead_letter_of_some_messages_of_a_record_is_a_line_each():
    assert rows.dead([letter(items="1,3")], "t").splitlines() == [
        f"0\t5\t{item}\t{T0}\t\\N\tdecode\tnot_json" for item in (1, 3)
    ]


def test_a_record_is_a_line_for_each_message_that_comes_of_it():
    version = Version(datetime.fromtimestamp(1_764_000_000, UTC), "t", 1, 7)
    items = [Delete("a", version), Message("b", version._replace(item=2), None, None, version.event_time, None, "{}")]
    first, second = rows.sent([Stub(b"x")], lambda _: items).splitlines()
    assert first.split("\t")[:8] == ["1", "7", "0", "f", str(T0), "f", "deleted", "a"]
    assert second.split("\t")[2:10] == ["2", "t", str(T0), "t", "live", "b", "2025-11-24T16:00:00+00:00", "\\N"]
    assert rows.sent([Stub(b"x")], lambda _: ()).split("\t")[6] == "filtered"


@pytest.mark.parametrize("said", ["", "yesterday", "2025-11-24T16:00:00", "10000-01-01T00:00:00.000Z"])
def test_a_dead_letter_with_the_id_of_its_topic_and_without_a_time(said):
    (line,) = rows.dead([letter(timestamp=said, topic_id="pBa4qaO5RnGY-kK25Fio0w")], "t").splitlines()
    assert line.split("\t")[3:5] == ["\\N", "pBa4qaO5RnGY-kK25Fio0w"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_cover_each_offset_once(count):
    cut = shares([Range(0, 5, 25), Range(3, 0, 2)], count)
    assert len(cut) == count
    for place, (first, end) in enumerate([(5, 25), (0, 2)]):
        offsets = [offset for share in cut for offset in range(share[place].first, share[place].end)]
        assert offsets == list(range(first, end))


def test_a_process_that_fails_or_dies_is_one_clear_error():
    receiver, sender = Pipe(duplex=False)
    sender.send((b"line", 1))
    sender.send(ConfigError("Kafka is away"))
    sender.close()
    assert _received(receiver) == (b"line", 1)
    with pytest.raises(ConfigError, match="Kafka is away"):
        _received(receiver)
    with pytest.raises(ConfigError, match="was killed"):
        _received(receiver)
    receiver.close()


def report(**facts):
    known = {
        "topic": "t", "table": "e", "messages": 10, "ids": 4, "outcomes": Outcomes(4, 2, 1, 1, dead=2),
        "dead_letters": (Dead("decode", "not_json", 2),), "expired": 0, "newer": 0, "other_topics": 0, "sampled": 0,
        "kinds": {}, "findings": (),
    }  # fmt: skip
    return Report(**(known | facts))


def test_a_report_that_closes():
    assert report().closes
    assert "closes: 10 = 4 + 2 + 1 + 1 + 0 + 2 + 0 + 0\n\nequal: " in str(report())
    assert "\n  decode not_json   2\n" in str(report())
    assert "but for 3 in flight" in str(report(outcomes=Outcomes(4, 3, in_flight=3)))
    assert "does not close: 11 ≠" in str(report(messages=11))
    waiting = report(behind_transaction=51, expired_unread=3)
    assert "equal: the table is what the topic says, but for 51 offsets behind an open transaction" in str(waiting)
    assert "expired unread" in str(waiting)
    several = report(messages=7, exploded=4, outcomes=Outcomes(4, 2, 1, 1, filtered=1, dead=2))
    assert "closes: 7 + 4 = 4 + 2 + 1 + 1 + 1 + 2 + 0 + 0" in str(several)


def test_what_moved_is_one_finding_with_what_to_do():
    found = report(kinds={"moved": 40}, moved=40, troubles=("topic t is another topic: submit --adopt-topic",))
    assert not found.equal
    assert str(found).endswith("not equal: 40 moved\ntopic t is another topic: submit --adopt-topic")
    assert found.as_facts()["left_out"] == {}


def test_findings_are_shown_and_counted():
    found = report(
        kinds={"stale": 3}, findings=(Finding("stale", "a", "0/1", "0/2"),), repair=Repair(3, 1, 0, 0, dry_run=True)
    )
    assert "not equal: 3 stale" in str(found)
    assert "stale    a   0/1        0/2" in str(found)
    assert "3 would be sent again" in str(found)
    facts = json.loads(as_json(found.as_facts()))
    assert (facts["equal"], facts["closes"], facts["stored"], facts["left_out"]) == (False, True, 4, {"stale": 2})
    assert facts["findings"] == [{"kind": "stale", "id": "a", "ledger": "0/1", "topic": "0/2"}]
    assert facts["repair"]["resent"] == 3
