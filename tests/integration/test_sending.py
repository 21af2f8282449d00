"""`embedstream send` against a real broker."""

import io
import json
import os
import subprocess
import sys
import time
import uuid

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from embedstream import kafka
from embedstream.errors import ConfigError
from embedstream.send import Checker, send_deletes, send_lines
from embedstream.settings import load_settings

LIMIT = 200_000
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def settings(kafka):
    """Settings with a topic of three partitions that takes batches of 200,000 bytes."""
    topic = f"in-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    limited = NewTopic(topic, 3, 1, config={"max.message.bytes": str(LIMIT)})
    admin.create_topics([limited])[topic].result(10)
    return load_settings(kafka_bootstrap_servers=kafka, kafka_input_topic=topic, embedding_service_url=NOWHERE)


@pytest.fixture
def new(settings):
    """The records that came since the test began."""
    before = kafka.extent(settings, settings.kafka_input_topic)

    def read():
        after = kafka.extent(settings, settings.kafka_input_topic)
        ranges = {number: (before[number][1], after[number][1]) for number in after}
        return list(kafka.read(settings, settings.kafka_input_topic, ranges))

    return read


def run(settings, *arguments, stdin=b"", timeout=60):
    command = [sys.executable, "-m", "embedstream", "send", *arguments]
    environment = {**os.environ, **settings.to_env()}
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, check=False, timeout=timeout)


def send(settings, *values):
    given = b"\n".join(value if isinstance(value, bytes) else json.dumps(value).encode() for value in values)
    return send_lines(settings, io.BytesIO(given), Checker(settings, "id"))


def noise(size):
    """A text that no codec makes smaller than four fifths."""
    return os.urandom(size).hex()[:size]


def test_json_says_where_each_record_stands(settings, new):
    lines = b'\xef\xbb\xbf{"id": "a", "text": "x"}\n{"text": "y"}\n{"id": 7, "text": "z"}\n'
    done = run(settings, "--json", stdin=lines)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["topic"], facts["sent"]) == (settings.kafka_input_topic, 3)
    values = {(record.partition(), record.offset()): json.loads(record.value()) for record in new()}
    told = [(each["id"], values[each["partition"], each["offset"]]["text"]) for each in facts["records"]]
    place = facts["records"][1]
    assert told == [("a", "x"), (f"{facts['topic']}-{place['partition']}-{place['offset']}", "y"), ("7", "z")]


def test_one_bad_line_and_nothing_is_sent(settings, new, tmp_path):
    file = tmp_path / "lines"
    file.write_bytes(b'{"text": "a"}\n' * 20_000 + b'{"text": NaN}\n{"text": "b"}\nnull\n')
    done = run(settings, str(file))
    assert done.returncode == 2
    first, *rest = done.stderr.decode().splitlines()
    assert first == "embedstream: nothing was sent, since 2 cannot be:"
    assert [line.partition(":")[0] for line in rest] == ["line 20001", "line 20003"]
    assert new() == []


def test_a_line_that_the_topic_does_not_take_is_named_before_anything_is_sent(settings, new):
    with pytest.raises(ConfigError, match=rf"^line 2: the record has \d+ bytes, more than the topic takes \({LIMIT}\)"):
        send(settings, {"text": "a"}, {"text": noise(3 * LIMIT)}, {"text": "b"})
    assert new() == []


def test_what_fits_once_it_is_compressed_is_sent(settings, new):
    send(settings, {"text": "a"}, {"text": "many words " * (LIMIT // 4)}, {"text": noise(LIMIT - 1000)})
    assert len(new()) == 3


def test_a_text_longer_than_the_settings_accept_is_named(settings, new):
    with pytest.raises(ConfigError, match=r"^line 2: the text has 1500000 bytes, more than 1048576; nothing was sent"):
        send(settings, {"text": "a"}, {"text": "a" * 1_500_000})
    assert new() == []


def test_what_the_broker_refuses_after_all_is_named(settings, monkeypatch):
    """Its limit was lowered meanwhile, or it does not tell."""
    monkeypatch.setattr(kafka, "largest_batch", lambda *_: 16_000_000)
    with pytest.raises(ConfigError, match=r"^line 3: topic .* too large.*; others may have been sent"):
        send(settings, {"text": "a"}, b"", {"text": noise(900_000)})


def test_the_limit_is_the_topic_s_own_where_the_broker_tells(settings):
    assert kafka.largest_batch(settings, settings.kafka_input_topic) == LIMIT
    assert kafka.largest_batch(settings, "no-such-topic") == kafka.LARGEST_MESSAGE


def test_deletes(settings, new):
    sent = send_deletes(settings, ["a", "b"], Checker(settings, "id"))
    assert [each["id"] for each in sent.records("t")] == ["a", "b"]
    assert {(record.key(), record.value()) for record in new()} == {(b"a", None), (b"b", None)}
    done = run(settings, "--delete", "c", "--delete", "")
    assert (done.returncode, b"--delete no. 2: the value is null" in done.stderr) == (2, True)
    assert len(new()) == 2


def test_a_pipe_without_end_is_sent_line_by_line(settings, new):
    command = [sys.executable, "-m", "embedstream", "send", "--stream"]
    environment = {**os.environ, **settings.to_env()}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as sender:
        for count in (1, 2):
            sender.stdin.write(b'{"text": "as it comes"}\n')
            sender.stdin.flush()
            end = time.monotonic() + 30
            while len(new()) < count:
                assert time.monotonic() < end
        told = sender.communicate(b'{"text": 1}\n{"text": "never"}\n')[1]
    assert sender.returncode == 2
    assert told == b"embedstream: line 3: the text is not a string; the lines before it were sent\n"
    assert len(new()) == 2


def test_the_model_is_not_checked_where_no_service_answers_and_that_is_said(settings, new):
    done = run(settings, stdin=b'{"text": "x", "model": "another"}\n' * 2)
    assert (done.returncode, len(new())) == (0, 2)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("the field model is not checked: no embedding service answers")


def test_the_model_is_checked_where_it_answers(settings, new, service_url):
    there = settings.model_copy(update={"embedding_service_url": service_url})
    done = run(there, stdin=b'{"text": "x", "model": "another"}\n')
    assert (done.returncode, new()) == (2, [])
    assert b"line 1: the message asks for another model than the table's" in done.stderr


def test_no_broker_is_one_clear_error(settings):
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    done = run(away, stdin=b'{"text": "x"}\n')
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "check KAFKA_BOOTSTRAP_SERVERS" in line
