"""A table of PostgreSQL through Debezium, Kafka and the job: the embeddings are those of the rows that it holds."""

import json
import random
from contextlib import suppress

import psutil
import pytest

from embedstream import demo_cdc
from support.stack import running_stack, wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SETTINGS = {"FLINK_CHECKPOINT_INTERVAL_MS": "1000", "EMBEDDING_MODEL": "fake:64"}
SOURCE = "SELECT id::text, body, title, lang FROM shop.articles ORDER BY id::text"
EMBEDDED = "SELECT id, text, metadata->>'title', metadata->>'lang' FROM article_embeddings ORDER BY id"


@pytest.fixture
def stack(tmp_path):
    """As the demo sets it up: the table first, then Debezium."""
    pipelines, connector = tmp_path / "embedstream.yaml", tmp_path / "demo.properties"
    pipelines.write_text(demo_cdc.PIPELINES)
    connector.write_text(demo_cdc.CONNECTOR)
    settings = SETTINGS | {"EMBEDSTREAM_FILE": str(pipelines)}
    with running_stack(tmp_path / "stack", settings, "--only", "postgres") as first:
        first.execute(demo_cdc.TABLE)
        Changes(first, seed=1).make(60)
    with running_stack(tmp_path / "stack", settings, "--connector", str(connector)) as stack:
        yield stack


class Changes:
    """What an application might do to the table; a long body is stored apart from its row."""

    def __init__(self, stack, seed):
        self._stack = stack
        self._random = random.Random(seed)

    def make(self, number):
        for _ in range(number):
            kinds = [self._insert, self._change_body, self._change_body, self._change_lang, self._delete, self._move]
            self._random.choice(kinds)()

    def _execute(self, statement, *values):
        self._stack.execute(statement, values)

    def _id(self):
        return self._random.randrange(1, 50)

    def _body(self):
        words = [f"{self._random.getrandbits(40):x}" for _ in range(self._random.choice([5, 1000]))]
        return " ".join(words)

    def _insert(self):
        self._execute(
            "INSERT INTO shop.articles VALUES (%s, 'new', %s, 'en', now()) ON CONFLICT DO NOTHING",
            self._id(), self._body(),
        )  # fmt: skip

    def _change_body(self):
        self._execute(
            "INSERT INTO shop.articles VALUES (%s, 'new', %s, 'en', now())"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body, title = 'changed'",
            self._id(), self._body(),
        )  # fmt: skip

    def _change_lang(self):
        self._execute("UPDATE shop.articles SET lang = %s WHERE id <= %s", self._random.choice("abc"), self._id() // 5)

    def _delete(self):
        self._execute("DELETE FROM shop.articles WHERE id = %s", self._id())

    def _move(self):
        """The id changes; without its body the new row would come without text."""
        number = self._id()
        self._execute(
            "UPDATE shop.articles SET id = %s, body = %s WHERE id = %s AND NOT EXISTS"
            " (SELECT FROM shop.articles WHERE id = %s)",
            number, self._body(), self._id(), number,
        )  # fmt: skip


def test_the_embeddings_are_those_of_the_rows_whatever_is_killed(stack):
    wait(lambda: equal(stack), 60, "the snapshot")
    changes = Changes(stack, seed=2)
    changes.make(100)
    for worker in stack.python_workers():
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    changes.make(100)
    stack.kill("connect")
    changes.make(100)
    stack.execute("INSERT INTO shop.articles VALUES (1000, 'the last', 'the last one', 'en', now())", ())
    wait(lambda: equal(stack), 120, "the embeddings to be those of the rows")
    wait(lambda: not in_flight(stack), 60, "the last checkpoint")
    assert report(stack)["equal"]
    live = stack.query("SELECT id FROM article_embeddings_ledger WHERE state = 'live' ORDER BY id")
    assert live == [(row[0],) for row in stack.query(SOURCE)]
    assert stack.query("SELECT count(*) FROM article_embeddings WHERE text LIKE '%%unavailable_value%%'") == [(0,)]


def equal(stack):
    return stack.query(SOURCE) == stack.query(EMBEDDED)


def in_flight(stack):
    return report(stack)["in_flight"]


def report(stack):
    return json.loads(stack.command("audit", "--json", check=False).stdout)
