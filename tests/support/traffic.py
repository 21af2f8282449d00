"""Mixed traffic whose outcome is known: every record says in a header what must become of it.

The final table is computed here from those headers and the records' coordinates, without any code of embedstream.
"""

import json
import random
import time
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from embedstream.kafka import Outgoing

WORDS = ["stream", "table", "vector", "message", "broker", "offset", "window", "join", "index", "query", "row", "batch"]
INTENT = "intent"


@dataclass(frozen=True)
class Row:
    text: str
    metadata: dict
    source: str | None
    timestamp_ms: int


class Traffic:
    """A seeded generator; records get timestamps of their own, `step_ms` apart, and some say older ones."""

    def __init__(self, seed, ids, start_ms, *, step_ms=10, poison=False):
        self.step_ms = step_ms
        self.poison_share = 0.2 if poison else 0
        self.random = random.Random(seed)
        self.ids = [f"id-{n}" for n in range(ids)]
        self.now_ms = start_ms
        self.sent = []

    def records(self, count):
        kinds = {
            self.message: 60, self.delete: 8, self.duplicate: 6, self.retouch: 6, self.late: 8, self.garbage: 8,
            self.twins: 2, self.keyless: 2, self.poison: self.poison_share,
        }  # fmt: skip
        made = []
        while len(made) < count:
            (kind,) = self.random.choices(list(kinds), kinds.values())
            made.extend(kind())
        return made[:count]

    def oddities(self):
        """One of each rare kind."""
        text = "x" * 1000 + " word" * 39_800
        return [
            self._accepted("huge", {"text": text}, text),
            self._accepted("nul", {"text": "a\0b"}, "a\ufffdb", {"sanitized": True}),
            self._accepted("surrogate", {"text": "a\ud800"}, "a\ufffd", {"sanitized": True}),
            self._accepted("emoji", {"text": "\U0001f600 é"}, "\U0001f600 é"),
            self._accepted(None, {"text": "no id at all"}, "no id at all", key=None),
            self._accepted("12345678901234567890123", {"id": 12345678901234567890123, "text": "n"}, "n"),
            self._accepted("nullable", {"text": "n", "metadata": None, "source": None, "timestamp": None}, "n"),
        ]

    def message(self):
        id = self.random.choice(self.ids)
        text = " ".join(self.random.choices(WORDS, k=self.random.randint(2, 12)))
        fields = {"source": self.random.choice(["web", None]), "metadata": {"n": self.random.randint(0, 9)}}
        said = self.random.choice([None, None, self.now_ms, self.now_ms - 50, self.now_ms + 10**9])
        if said is not None:
            fields["timestamp"] = self.random.choice([said, said / 1000])
        return [self._accepted(id, {"text": text, **fields}, text, fields["metadata"], fields["source"], said)]

    def late(self):
        id, text = self.random.choice(self.ids), f"late {self.random.random()}"
        said = self.now_ms - self.random.randint(1_000, 1_000_000)
        return [self._accepted(id, {"text": text, "timestamp": said}, text, said=said)]

    def twins(self):
        id = self.random.choice(self.ids)
        return [self._accepted(id, {"text": f"twin {n} {self.now_ms}"}, f"twin {n} {self.now_ms}") for n in range(2)]

    def keyless(self):
        id = self.random.choice(self.ids)
        return [self._accepted(id, {"id": id, "text": f"keyless {id}"}, f"keyless {id}", key=None)]

    def delete(self):
        id = self.random.choice(self.ids)
        return [self._record(None, id.encode(), {"kind": "delete", "id": id})]

    def duplicate(self):
        return [self.random.choice(self.sent)] if self.sent else []

    def retouch(self):
        """The text of an earlier message with other metadata."""
        record = self.random.choice(self.sent) if self.sent else None
        intent = json.loads(dict(record.headers)[INTENT]) if record else {}
        if intent.get("kind") != "message" or intent["id"] is None or "\ufffd" in intent["text"]:
            return []
        metadata = {"retouched": self.now_ms}
        body = {"text": intent["text"], "metadata": metadata}
        return [self._accepted(intent["id"], body, intent["text"], metadata)]

    def poison(self):
        """A text on which the service fails as a whole, where it stands behind `support.proxies`."""
        body = {"text": f"poison {self.random.random()}"}
        return [self._record(json.dumps(body).encode(), b"poisoned", {"kind": "dead", "code": "service_failed"})]

    def probe(self, id):
        return self._accepted(id, {"text": f"probe {id}"}, f"probe {id}")

    def aborted(self, id):
        """A record of a transaction that is to be aborted: none of those sent, and nothing explains its row."""
        record = self._accepted(id, {"text": f"aborted {id}"}, f"aborted {id}")
        self.sent.remove(record)
        return record

    def farewell(self, id):
        """A delete of this very id."""
        return self._record(None, id.encode(), {"kind": "delete", "id": id})

    def catch_up(self, count=1):
        """So many records more, and it is now: none of them is dated ahead."""
        self.now_ms = max(self.now_ms, int(time.time() * 1000) - count * self.step_ms)

    def garbage(self):
        value, key, code = self.random.choice(GARBAGE)
        return [self._record(value, key, {"kind": "dead", "code": code})]

    def _accepted(self, id, body, text, metadata=None, source=None, said=None, key=b""):
        intent = {"kind": "message", "id": id, "text": text, "metadata": metadata or {}, "source": source, "said": said}
        if key is not None:
            key = id.encode()
        elif id is not None:
            body = {"id": id, **body}
        return self._record(json.dumps(body).encode(), key, intent)

    def _record(self, value, key, intent):
        self.now_ms += self.step_ms
        headers = [(INTENT, json.dumps(intent)), ("empty", b""), ("binary", b"\xff\x00"), ("nothing", None)]
        record = Outgoing(value, key, headers[: self.random.randint(1, 4)], self.now_ms)
        self.sent.append(record)
        return record


GARBAGE = [
    *(
        (value, b"k", "not_utf8")
        for value in (
            b"\xff\xfe\x00garbage",
            b"\x80",
            b'{"text": "\xc3"}',
            b'{"text": "\xed\xa0\x80"}',
            b"\x00\x00\x00\x00\x01\xf0avro",
            '{"text": "utf-16"}'.encode("utf-16"),
            b"\x1f\x8b\x08\x00gzip",
            b'{"text": "latin \xe9"}',
        )
    ),
    *(
        (value, b"k", "not_json")
        for value in (
            b"not json",
            b"",
            b" ",
            b"{",
            b'{"text": "cut',
            b'{"text": "x"',
            b'{"text": "x"} {"text": "y"}',
            b'{"text": "x",}',
            b"{'text': 'x'}",
            b'{"text": NaN}',
            b'{"text": "x", "timestamp": Infinity}',
            b'{"text": "x", "metadata": {"a": -Infinity}}',
            b"[" * 50_000,
            b'{"text":' * 20_000,
            b"\xef\xbb\xbfx",
            b'{"text": "a\nb"}',
            b"<xml/>",
            b"\x00",
            b"undefined",
        )
    ),
    *(
        (value, b"k", "not_an_object")
        for value in (b"[1, 2]", b"null", b"true", b"42", b'"text"', b"[]", b'[{"text": "x"}]', b"1.5e3")
    ),
    *(
        (value, b"k", "text_missing")
        for value in (b"{}", b'{"Text": "x"}', b'{"message": {"text": "x"}}', b'{"id": 1}')
    ),
    *(
        (value, b"k", "text_not_a_string")
        for value in (
            b'{"text": 42}',
            b'{"text": true}',
            b'{"text": []}',
            b'{"text": {}}',
            b'{"text": 1.5}',
            b'{"text": ["x"]}',
        )
    ),
    *(
        (b'{"text": "%s"}' % text, b"k", "text_blank")
        for text in (b"  \\n", b"", b"\\u2003\\t", b"\\u200b", b"\\u00ad\\u200f ", b"\\ufe0f", b"\\udb40\\udd00")
    ),
    *(
        (value, b"k", "envelope")
        for value in (
            b'{"schema": null, "payload": null}',
            b'{"schema": {"type": "struct"}, "payload": {"text": "x"}}',
            b'{"before": null, "after": {"text": "x"}, "source": {}, "op": "c", "ts_ms": 1}',
            b'{"specversion": "1.0", "type": "t", "source": "s", "id": "i", "data": {"text": "x"}}',
            b'{"database": "d", "table": "t", "type": "insert", "data": {"text": "x"}}',
        )
    ),
    (b'{"text": "' + b"x" * 1_048_577 + b'"}', b"k", "text_too_large"),
    (b'{"text": "x"}', b"\xff", "bad_id"),
    *(
        (b'{"text": "x", "id": ' + id + b"}", b"k", "bad_id")
        for id in (b'"\\u0000"', b'""', b"[]", b"{}", b"true", b'"\\ud800"', b'"' + b"i" * 513 + b'"')
    ),
    *(
        (b'{"text": "x", "timestamp": ' + moment + b"}", b"k", "bad_timestamp")
        for moment in (
            b'"soon"',
            b'""',
            b'"2026-01-01"',
            b'"2026-01-01T00:00:00"',
            b'"2026-13-01T00:00:00Z"',
            b"[]",
            b"{}",
            b"true",
            b"1e300",
            b"-1e21",
        )
    ),
    *((b'{"text": "x", "model": ' + model + b"}", b"k", "bad_model") for model in (b"42", b"[]", b"{}", b"false")),
    *(
        (b'{"text": "x", "model": ' + model + b"}", b"k", "other_model")
        for model in (b'"another/model"', b'""', b'"ALL-MINILM"')
    ),
    *((b'{"text": "x", "source": ' + source + b"}", b"k", "bad_source") for source in (b"42", b"[]", b"{}")),
    *(
        (b'{"text": "x", "metadata": ' + metadata + b"}", b"k", "bad_metadata")
        for metadata in (b"[]", b'"x"', b"1", b"true")
    ),
    *((None, key, "delete_without_key") for key in (None, b"")),
    (None, b"\xff\xfe", "bad_id"),
]


def read_topic(bootstrap_servers, topic):
    """Every record that a reader of committed records gets of a topic now; other offsets hold none for it."""
    options = {"group.id": "reader", "enable.auto.commit": False, "enable.partition.eof": True}
    with Consumer({"bootstrap.servers": bootstrap_servers, **options}) as consumer:
        left = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
        records = []
        while left:
            message = consumer.poll(10)
            assert message is not None, f"records of partitions {left} did not come"
            if message.error() is None:
                records.append(message)
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                left.discard(message.partition())
        return records


def expected(records):
    """What must become of the records of the input topic that carry an intent.

    Returns the rows of the table by id, the deleted ids, and the codes of the dead letters by (partition, offset).
    """
    newest, dead = {}, {}
    for record in records:
        headers = dict(record.headers() or [])
        if INTENT not in headers:
            continue
        intent = json.loads(headers[INTENT])
        place = (record.partition(), record.offset())
        if intent["kind"] == "dead":
            dead[place] = intent["code"]
            continue
        recorded = record.timestamp()[1]
        said = intent.get("said") if intent.get("said") is not None else recorded
        id = intent["id"] if intent["id"] is not None else f"{record.topic()}-{place[0]}-{place[1]}"
        version = (min(said, recorded), *place)
        if id not in newest or newest[id][0] < version:
            newest[id] = (version, intent, said)
    rows = {
        id: Row(intent["text"], intent["metadata"], intent["source"], said)
        for id, (_, intent, said) in newest.items()
        if intent["kind"] == "message"
    }
    return rows, newest.keys() - rows.keys(), dead
