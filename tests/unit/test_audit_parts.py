import json
from multiprocessing import Pipe

import pytest

from embedstream.audit import Finding, Report, rows
from embedstream.audit.reading import _received, shares
from embedstream.audit.records import Range
from embedstream.audit.report import Dead, Outcomes, Repair
from embedstream.display import as_json
from embedstream.errors import ConfigError
from embedstream.message import Rules

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
    (line,) = rows.sent([Stub(value, key)], RULES).splitlines()
    return line.split("\t")


def test_a_message_is_a_line():
    value = json.dumps({"text": "x", "source": "a\tb\\", "metadata": {"p": "c:\\d\n"}, "timestamp": T0 - 1}).encode()
    place, asks, who, when, hash_, source, said, metadata = [fields(value)[:2], *fields(value)[2:]]
    assert (place, asks, who) == (["1", "7"], "live", "k")
    assert when == said == "2025-11-24T16:00:00.122000+00:00"
    assert hash_.startswith("\\\\x2d711642b726b044")
    assert source == "a\\tb\\\\"
    assert metadata == '{"p":"c:\\\\\\\\d\\\\n"}'


def test_the_event_time_is_the_earlier_one():
    line = fields(json.dumps({"text": "x", "timestamp": T0 + 1}).encode())
    assert (line[4], line[7]) == ("2025-11-24T16:00:00.123000+00:00", "2025-11-24T16:00:00.124000+00:00")


def test_deletes_and_what_is_rejected():
    assert fields(None)[2:4] == ["deleted", "k"]
    assert fields(b"{}")[2:] == ["rejected", *["\\N"] * 6]


def letter(**facts):
    known = {"topic": "t", "partition": "0", "offset": "5", "stage": "decode", "error": "not_json"} | facts
    return Stub(b"x", b"k", [(f"dlq.{name}", value.encode()) for name, value in known.items()])


def test_dead_letters_of_the_topic_are_lines():
    letters = [letter(), letter(topic="other"), letter(offset="-1"), letter(partition="99999999999"), Stub(b"x")]
    assert rows.dead(letters, "t") == "0\t5\tdecode\tnot_json\n"


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
        "topic": "t", "table": "e", "messages": 10, "ids": 4, "outcomes": Outcomes(4, 3, 1, 2),
        "dead_letters": (Dead("decode", "not_json", 2),), "expired": 0, "newer": 0, "other_topics": 0, "sampled": 0,
        "kinds": {}, "findings": (),
    }  # fmt: skip
    return Report(**(known | facts))


def test_a_report_that_closes():
    assert report().closes
    assert "closes: 10 = 4 + 3 + 1 + 2 + 0 + 0\n\nequal: " in str(report())
    assert "\n  decode not_json   2\n" in str(report())
    assert "but for 3 in flight" in str(report(outcomes=Outcomes(4, 3, in_flight=3)))
    assert "does not close: 11 ≠" in str(report(messages=11))


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
