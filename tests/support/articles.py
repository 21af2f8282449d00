"""A table whose changes Debezium sends in Avro, and what a pipeline over them must hold of it.

That is told from the changes that were made, without any code of the pipeline.
"""

import base64
import json
import random
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import httpx
import numpy as np

from embedstream.kafka import Outgoing
from embedstream.pipelines.choice import all_settings
from support.debezium import UNAVAILABLE, VALUE
from support.registry import framed
from support.stack import running_stack
from support.traffic import read_topic

PIPELINE = """
version: 1
pipelines:
  articles:
    topic: shop.articles
    table: articles
    format: {key: registry, value: registry}
    registry: ${SCHEMA_REGISTRY_URL}
    envelope: debezium
    text: value.body
    metadata:
      lang: value.lang
      price: value.price
      day: value.day
      made_at: value.made_at
      exact: value.any_num
      tags: value.tags
      author: value.author
    chunks: {tokens: 32, prefix: value.title}
"""
# As many words as leave no room for another one beside a title.
PARAGRAPHS = [f"Paragraph {n} has just as many words as leave no room for another one." for n in range(60)]
STORED_APART = 2000
PARTITIONS = 2


@contextmanager
def articles_stack(directory, monkeypatch, *options, **settings):
    """The embedded stack with a registry and this pipeline, whose settings it has."""
    file = directory / "embedstream.yaml"
    file.write_text(PIPELINE)
    settings = {
        "EMBEDDING_MODEL": "fake:64", "FLINK_CHECKPOINT_INTERVAL_MS": "1000", "EMBEDSTREAM_FILE": str(file), **settings,
    }  # fmt: skip
    with running_stack(directory / "stack", settings, "--with", "registry", *options) as stack:
        monkeypatch.setenv("SCHEMA_REGISTRY_URL", stack.environment["SCHEMA_REGISTRY_URL"])
        base = stack.settings.model_copy(update={"embedstream_file": file})
        stack.settings = all_settings(base)["articles"]
        yield stack


class Registrar:
    """Registers schemas as a converter does; from the first one on, the registry takes only compatible ones."""

    def __init__(self, stack):
        self._url = stack.environment["SCHEMA_REGISTRY_URL"]
        self._topic = stack.settings.kafka_input_topic
        self.ids = []

    def __call__(self, part, schema):
        subject = f"{self._topic}-{part}"
        body = {"schema": json.dumps(schema)}
        answer = httpx.post(f"{self._url}/subjects/{subject}/versions", json=body, trust_env=False).raise_for_status()
        compatible = {"compatibility": "BACKWARD"}
        httpx.put(f"{self._url}/config/{subject}", json=compatible, trust_env=False).raise_for_status()
        self.ids.append(answer.json()["id"])
        return self.ids[-1]


class Articles:
    """A table whose changes Debezium sends.

    `documents` are the rows that the pipeline must hold, `dead` counts the codes of the dead letters.
    """

    def __init__(self, debezium, seed):
        self._debezium = debezium
        self._random = random.Random(seed)
        self._rows = {}
        self._has_author = False
        self.documents = {}
        self.dead = Counter()

    def snapshot(self, count):
        for id in range(count):
            which = {0: "first", count - 1: "last"}.get(id, "true")
            yield from self._put(id, self._row(id), "r", snapshot=which)

    def changes(self):
        kinds = {
            self._insert: 4, self._change_body: 4, self._change_title: 4, self._delete: 2, self._move: 2,
            self._blank: 1, self._garbage: 1,
        }  # fmt: skip
        while True:
            (kind,) = self._random.choices(list(kinds), kinds.values())
            yield from kind()

    def add_author(self):
        self._debezium.add_column("author")
        self._has_author = True

    def truncate(self):
        """Of which no row of the pipeline's table can know."""
        self.dead["truncate"] += 1
        yield Outgoing(self._debezium.change("t"), partition=0)

    def _row(self, id):
        chance = self._random
        row = {
            **VALUE["payload"]["after"], "id": id, "title": f"Title {chance.randrange(9)}", "body": self._body(),
            "lang": chance.choice(["de", "en", None]), "price": encoded(chance.randrange(-99_999, 99_999)),
            "day": chance.randrange(30_000), "made_at": chance.randrange(10**15),
        }  # fmt: skip
        return row | ({"author": chance.choice(["Ada", None])} if self._has_author else {})

    def _body(self):
        return "\n\n".join(self._random.choices(PARAGRAPHS, k=self._random.choice([1, 4, 40])))

    def _put(self, id, row, op, snapshot="false"):
        """An insert or an update; what is stored apart from its row comes only where it changed."""
        former = self._rows.get(id)
        self._rows[id] = row
        is_left_out = op != "r" and len(row["body"]) > STORED_APART and former and former["body"] == row["body"]
        yield from self._sent(id, row, op, is_left_out=is_left_out, snapshot=snapshot)

    def _sent(self, id, row, op, *, is_left_out, snapshot="false"):
        after = row | ({"body": UNAVAILABLE} if is_left_out else {})
        if is_left_out and id not in self.documents:
            self.dead["text_unavailable"] += 1
        elif not row["body"].strip():
            self.dead["text_blank"] += 1
        else:
            self.documents[id] = row
        yield self._outgoing(id, self._debezium.change(op, after=after, snapshot=snapshot))

    def _outgoing(self, id, value):
        return Outgoing(value, self._debezium.key(id), partition=id % PARTITIONS)

    def _insert(self):
        if new := self._free():
            yield from self._put(new, self._row(new), "c")

    def _free(self):
        """An id that is none; there are never many, so that each has many versions."""
        free = [id for id in range(1, 60) if id not in self._rows]
        return self._random.choice(free) if free else None

    def _change_body(self):
        if self._rows:
            id = self._random.choice(list(self._rows))
            yield from self._put(id, self._row(id), "u")

    def _change_title(self):
        if self._rows:
            id = self._random.choice(list(self._rows))
            yield from self._put(id, self._row(id) | {"body": self._rows[id]["body"]}, "u")

    def _blank(self):
        if self._rows:
            id = self._random.choice(list(self._rows))
            yield from self._put(id, self._row(id) | {"body": " \n"}, "u")

    def _delete(self):
        if self._rows:
            yield from self._gone(self._random.choice(list(self._rows)))

    def _gone(self, id):
        del self._rows[id]
        self.documents.pop(id, None)
        before = dict.fromkeys(VALUE["payload"]["after"]) | {"id": id}
        yield self._outgoing(id, self._debezium.change("d", before=before))
        yield self._outgoing(id, None)

    def _move(self):
        """The key changes; a body that is stored apart does not come again."""
        new = self._free()
        if not new or not self._rows:
            return
        id = self._random.choice(list(self._rows))
        row = self._rows[id] | {"id": new}
        yield from self._gone(id)
        self._rows[new] = row
        yield from self._sent(new, row, "c", is_left_out=len(row["body"]) > STORED_APART)

    def _garbage(self):
        whole = self._debezium.change("c", after=self._row(1))
        values = {
            b"\xff": "not_framed", b'{"op": "c"}': "not_framed", whole[:-3]: "bad_avro", whole + b"\0": "bad_avro",
            framed(int.from_bytes(whole[1:5]), b"\xff" * 50): "bad_avro",
        }  # fmt: skip
        value = self._random.choice(list(values))
        self.dead[values[value]] += 1
        yield self._outgoing(self._random.randrange(60), value)


def encoded(number):
    return base64.b64encode(number.to_bytes(4, signed=True)).decode()


def metadata_of(row):
    cents = int.from_bytes(base64.b64decode(row["price"]), signed=True)
    made_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["made_at"])
    said = {
        "lang": row["lang"], "price": f"{cents / 100:.2f}", "day": str(date(1970, 1, 1) + timedelta(row["day"])),
        "made_at": f"{made_at:%Y-%m-%dT%H:%M:%S.%f}Z", "exact": "0.000000005", "tags": ["one", "two"],
        "author": row.get("author"),
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def assert_table(stack, rows):
    documents = stack.query("SELECT id, prefix, text, metadata FROM articles_documents")
    found = {id: fields for id, *fields in documents}
    expected = {str(id): [row["title"], row["body"], metadata_of(row)] for id, row in rows.items()}
    differing = {id for id in found.keys() | expected.keys() if found.get(id) != expected.get(id)}
    assert not differing, {id: (found.get(id), expected.get(id)) for id in sorted(differing)[:3]}
    chunks = stack.query('SELECT id, seq, start, "end", text FROM articles ORDER BY id, seq')
    assert chunks == [chunk for id, row in sorted((str(id), row) for id, row in rows.items()) for chunk in of(id, row)]
    live = stack.query("SELECT id FROM articles_ledger WHERE state = 'live'")
    assert {id for (id,) in live} == expected.keys()


def of(id, row):
    """The chunks of a row's body: its paragraphs."""
    start = 0
    for seq, text in enumerate(row["body"].split("\n\n")):
        yield id, seq, start, start + len(text), text
        start += len(text) + 2


def assert_dead_letters(stack, expected):
    """By how many there are of each code, each record once.

    Without a text for it, a row becomes one only where no newer version of it came in the same batch.
    """
    codes = {}
    for letter in read_topic(stack.settings.kafka_bootstrap_servers, stack.settings.kafka_dead_letter_topic):
        headers = dict(letter.headers())
        codes[headers["dlq.partition"], headers["dlq.offset"]] = headers["dlq.error"].decode()
    found, depends = Counter(codes.values()), "text_unavailable"
    assert found[depends] <= expected[depends], (found, expected)
    assert found - Counter({depends: found[depends]}) == expected - Counter({depends: expected[depends]})


def assert_vectors(stack, url=None):
    """Each is the answer of the stack's service, or of another one, for the chunk behind its title."""
    service = url or stack.settings.embedding_service_url
    rows = stack.query(
        "SELECT DISTINCT ON (d.prefix, c.text) d.prefix, c.text, c.embedding"
        " FROM articles AS c JOIN articles_documents AS d USING (id)"
    )
    for some in (rows[start : start + 200] for start in range(0, len(rows), 200)):
        texts = [f"{prefix}\n\n{text}" for prefix, text, _ in some]
        answer = httpx.post(f"{service}/generate", json={"texts": texts}, timeout=60)
        assert np.allclose([row[2] for row in some], answer.json()["embeddings"], atol=1e-6)


def is_proven(stack):
    report = json.loads(stack.command("audit", "--json", check=False).stdout)
    if report["in_flight"]:
        return False
    assert (report["equal"], report["closes"]) == (True, True), report
    return True
