import os
import subprocess
import sys

import pytest

import embedstream
from embedstream.display import table

# Nothing listens on port 1.
NOWHERE = {
    "PGVECTOR_HOST": "127.0.0.1", "PGVECTOR_PORT": "1", "FLINK_REST_URL": "http://127.0.0.1:1",
    "EMBEDDING_SERVICE_URL": "http://127.0.0.1:1",
}  # fmt: skip


def run(*arguments, stdin="", **environment):
    return subprocess.run(
        [sys.executable, "-m", "embedstream", *arguments], env={**os.environ, **NOWHERE, **environment}, input=stdin,
        text=True, capture_output=True, check=False, timeout=30,
    )  # fmt: skip


def test_version():
    assert run("version").stdout.strip() == embedstream.__version__


@pytest.mark.parametrize(
    ("arguments", "stdin", "environment", "says"),
    [
        (["status"], "", {}, "check PGVECTOR_*"),
        (["audit"], "", {}, "check PGVECTOR_*"),
        (["where", "x"], "", {}, "check PGVECTOR_*"),
        (["where"], "", {}, "name an id, or a place of the topic"),
        (["where", "--at", "x"], "", {}, "write PARTITION:OFFSET, such as 0:4711"),
        (["where", "x", "--since", "x"], "", {}, "--since 'x': write a time"),
        (["forget", "x"], "", {}, "check PGVECTOR_*"),
        (["forget", ""], "", {}, "nothing was sent: the value is null"),
        (["search", "x"], "", {}, "check PGVECTOR_*"),
        (["search", "x", "--where", "nonsense"], "", {}, "write key=value, or a JSON object"),
        (["submit"], "", {}, "start it, or set FLINK_REST_URL"),
        (["send"], "not json", {}, "line 1: the value is not JSON (Expecting value at character 0); nothing was sent"),
        (["send"], "", {"FLINK_PARALLELISM": "many"}, "FLINK_PARALLELISM: "),
        (["service"], "", {"EMBEDDING_MODEL": "./such-model"}, "set EMBEDDING_MODEL to"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(arguments, stdin, environment, says):
    done = run(*arguments, stdin=stdin, **environment)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("embedstream: ")
    assert says in line


def test_nothing_to_send():
    assert run("send", stdin="\n", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1").stdout == "0 sent to topic text-messages\n"


def test_columns_are_aligned_and_nothing_is_markup():
    assert table(["id", "text"], [("a", "[bold]x"), ("long", 7)]) == "id    text\na     [bold]x\nlong  7"
