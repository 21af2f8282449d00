import json
import uuid

import pytest
from typer.testing import CliRunner

from embedstream import kafka
from embedstream.cli import app
from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing
from embedstream.settings import load_settings

STAMP = 1_764_000_000_123


@pytest.fixture
def settings(kafka, monkeypatch):
    """Settings with topics of the test's own, which the commands get from the environment."""
    name = uuid.uuid4().hex[:8]
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka, "KAFKA_INPUT_TOPIC": f"in-{name}", "KAFKA_DEAD_LETTER_TOPIC": f"dead-{name}",
        "KAFKA_GROUP_ID": f"group-{name}", "FLINK_PARALLELISM": "2",
    }  # fmt: skip
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return load_settings()


@pytest.fixture
def pipeline(settings):
    kafka.ensure_topics(settings)
    return Pipeline(settings)


class Pipeline:
    """The two topics, and what the job does for a message that it rejects."""

    def __init__(self, settings):
        self.settings = settings

    def input(self):
        return sorted(
            kafka.read(self.settings, self.settings.kafka_input_topic), key=lambda m: (m.partition(), m.offset())
        )

    def send(self, value, key=None, headers=(), partition=0):
        record = Outgoing(value, key, list(headers), STAMP, partition)
        kafka.produce(self.settings, self.settings.kafka_input_topic, [record])
        return [message for message in self.input() if message.partition() == partition][-1]

    def reject(self, message, code="not_json", stage="decode", topic=None):
        headers = kafka.headers_of(message)
        said = {
            "topic": topic or message.topic(), "partition": message.partition(), "offset": message.offset(),
            "timestamp": "2025-11-24T16:00:00.123Z", "stage": stage, "error": code, "reason": "a reason",
            "attempts": int(headers.get("dlq.attempts", 0)) + 1, "at": "2026-01-01T00:00:00.000Z", "job": "j",
        }  # fmt: skip
        headers |= {f"dlq.{name}": str(value).encode() for name, value in said.items()}
        record = Outgoing(message.value(), message.key(), list(headers.items()))
        kafka.produce(self.settings, self.settings.kafka_dead_letter_topic, [record])


def run(*arguments):
    result = CliRunner().invoke(app, ["dead-letters", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def facts(*arguments):
    return json.loads(run(*arguments, "--json"))


def test_list_show_and_export(pipeline, tmp_path):
    assert run("list") == "no dead letters\n"
    pipeline.reject(pipeline.send(b"\xff\x00", b"k", [("trace", b"1")]))
    pipeline.reject(pipeline.send(b'{"text": "x"}', partition=1), "refused", "embed")
    found = facts("list", "--limit", "1")
    assert found["count"] == 2
    assert [each["error"] for each in found["dead_letters"]] == ["refused"]
    assert facts("list", "--stage", "decode")["counts"] == [{"stage": "decode", "error": "not_json", "count": 1}]
    assert facts("list", "--since", "2026-01-02T00:00Z")["count"] == 0
    assert "0:1" in run("list")
    assert "00000000  ff 00" in run("show", "0:0")
    assert '"text": "x"' in run("show", "0:1")
    assert facts("show", "0:0")["value_base64"] == "/wA="
    lines = run("export").splitlines()
    assert [json.loads(line)["origin"]["partition"] for line in lines] == [0, 1]
    run("export", "--output", str(tmp_path / "out"), "--code", "refused")
    assert (tmp_path / "out").read_text().splitlines() == [lines[1]]


@pytest.mark.parametrize("place", ["0:5", "7:0"])
def test_a_place_without_a_record(pipeline, place):
    for command in ("show", "replay"):
        with pytest.raises(ConfigError, match="has no record"):
            run(command, place)


def test_no_topic_no_dead_letters(settings):
    assert run("list") == "no dead letters\n"


def test_a_replay_sends_the_original_once(pipeline):
    pipeline.reject(pipeline.send(b"\xff", b"k", [("trace", b"1")], partition=1))
    pipeline.reject(pipeline.send(b"{}"))
    assert facts("replay", "--all", "--dry-run")["sent"] == 2
    assert len(pipeline.input()) == 2
    assert facts("replay", "--all")["sent"] == 2
    again = pipeline.input()[-1]
    assert (again.partition(), again.offset(), again.value(), again.key()) == (1, 1, b"\xff", b"k")
    assert again.timestamp()[1] == STAMP
    assert kafka.headers_of(again) == {"trace": b"1", "dlq.attempts": b"1", "dlq.replayed": b"1-0"}
    assert pipeline.input()[1].key() == f"{again.topic()}-0-0".encode()
    assert facts("replay", "--all") | {"topic": ""} == {
        "topic": "", "dry_run": False, "sent": 0, "already_replayed": 2, "skipped": 0
    }  # fmt: skip
    assert "2 were replayed before" in run("replay", "--all")
    assert facts("replay", "0:1", "--again")["sent"] == 1
    assert len(pipeline.input()) == 5


def test_what_dies_again_counts_its_attempts_and_is_known_without_the_input(pipeline):
    pipeline.reject(pipeline.send(b"bad", b"k"))
    run("replay", "--all")
    pipeline.reject(pipeline.input()[-1])
    assert [each["attempts"] for each in facts("list")["dead_letters"]] == [1, 2]
    result = facts("replay", "--all")
    assert (result["sent"], result["already_replayed"]) == (1, 1)
    assert kafka.headers_of(pipeline.input()[-1]) == {"dlq.attempts": b"2", "dlq.replayed": b"0-1"}
    assert facts("replay", "--all")["sent"] == 0


def test_a_dead_letter_that_the_job_wrote_twice_is_sent_once(pipeline):
    message = pipeline.send(b"bad", b"k")
    for _ in range(2):
        pipeline.reject(message)
    assert facts("replay", "--all")["sent"] == 1
    assert facts("replay", "0:0")["sent"] == 0


def test_fields_are_set_or_nothing_is_sent(pipeline):
    pipeline.reject(pipeline.send(b'{"id": 1, "text": 2}'), "text_not_a_string")
    pipeline.reject(pipeline.send(b"[]"))
    with pytest.raises(ConfigError, match="dead letter 0:1: its payload is no JSON object"):
        run("replay", "--all", "--set", "text=two")
    assert len(pipeline.input()) == 2
    run("replay", "--code", "text_not_a_string", "--set", "text=two", "--set", "metadata.mended=true")
    assert json.loads(pipeline.input()[-1].value()) == {"id": 1, "text": "two", "metadata": {"mended": True}}


def test_payloads_are_edited(pipeline, monkeypatch):
    monkeypatch.setenv("VISUAL", "sed -i s/bad/good/")
    for value in (b"bad", b"odd"):
        pipeline.reject(pipeline.send(value, b"k"))
    result = facts("replay", "--all", "--edit")
    assert (result["sent"], result["skipped"]) == (1, 1)
    assert pipeline.input()[-1].value() == b"good"


def test_what_came_from_elsewhere_is_refused(pipeline):
    pipeline.reject(pipeline.send(b"x"), topic="elsewhere")
    with pytest.raises(ConfigError, match="set KAFKA_INPUT_TOPIC=elsewhere"):
        run("replay", "--all")
    kafka.produce(pipeline.settings, pipeline.settings.kafka_dead_letter_topic, [Outgoing(b"foreign")])
    with pytest.raises(ConfigError, match="no dead letter of embedstream's"):
        run("replay", "0:1")


@pytest.mark.parametrize("arguments", [[], ["--all", "0:1"], ["--all", "--stage", "decode"]])
def test_it_must_be_said_which(settings, arguments):
    with pytest.raises(ConfigError, match="say which dead letters"):
        run("replay", *arguments)
