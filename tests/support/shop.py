"""Records of two pipelines over Avro, articles by their keys and tickets that hold several comments, and what they say.

What must become of them is told from what was sent, without any code of the pipeline; a paragraph has as many words as
make a chunk.
"""

from datetime import date, timedelta
from typing import NamedTuple

from hypothesis import strategies as st

from embedstream.decode.spec import Chunks, Decoding
from support.avro import AvroWriter
from support.registry import framed

PARAGRAPHS = [f"Paragraph {n} has just as many words as leave no room for another one." for n in range(5)]
POISON = "A paragraph of poison has just as many words as leave no room at all."
KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
DECIMAL = {
    "type": "bytes", "scale": 2, "precision": 9, "connect.version": 1, "connect.parameters": {"scale": "2"},
    "connect.name": "org.apache.kafka.connect.data.Decimal", "logicalType": "decimal",
}  # fmt: skip
LANG = {"name": "lang", "type": ["null", "string"], "default": None}
ARTICLE = [
    {"name": "title", "type": "string"},
    {"name": "body", "type": ["null", "string"], "default": None},
    {"name": "price", "type": ["null", DECIMAL], "default": None},
    {"name": "day", "type": {"type": "int", "connect.name": "io.debezium.time.Date"}},
]
COMMENT = {
    "type": "record", "name": "Comment", "fields": [
        {"name": "n", "type": "int"}, {"name": "body", "type": "string"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["PUBLIC", "INTERNAL", "GONE"]}},
    ],
}  # fmt: skip
TICKET = [
    {"name": "ticket", "type": "long"},
    {"name": "title", "type": "string"},
    {"name": "comments", "type": ["null", {"type": "array", "items": COMMENT}]},
    {"name": "rev", "type": "long"},
]


def record_type(name, fields):
    return {"type": "record", "name": name, "namespace": "shop", "fields": fields}


SCHEMAS = {
    1: KEY, 2: record_type("Article", ARTICLE), 3: record_type("Article", [*ARTICLE, LANG]),
    4: record_type("Ticket", TICKET), 5: record_type("Ticket", [*TICKET, LANG]),
}  # fmt: skip
UNKNOWN, UNUSABLE = 4711, 6
WRITERS = {id: AvroWriter(schema, id) for id, schema in SCHEMAS.items()}
CHUNKS = Chunks(tokens=32, prefix="value.title")


class Document(NamedTuple):
    title: str
    paragraphs: tuple[str, ...]
    metadata: dict[str, str]

    @property
    def text(self):
        return "\n\n".join(self.paragraphs)


class Said(NamedTuple):
    """One message of a record; without a document its id is to be gone. `order` comes before any coordinates."""

    id: str
    order: int
    document: Document | None


class Sent(NamedTuple):
    """`says` are its messages by their numbers, or the code of the dead letter that it becomes."""

    value: bytes | None
    says: dict[int, Said] | str
    at: int
    partition: int
    key: bytes | None = b"k"


IDS, TIMES, PARTITIONS = st.integers(0, 2), st.integers(0, 9), st.integers(0, 1)
TITLES, LANGS = st.sampled_from(["One", "Two"]), st.sampled_from([None, "de", "en"])
TEXTS = st.lists(st.sampled_from([*PARAGRAPHS * 4, POISON]), max_size=7).map(tuple)
KEYS = IDS.map(lambda id: WRITERS[1]({"id": id}))


@st.composite
def articles(draw):
    id, at, cents, days, lang = draw(st.tuples(IDS, TIMES, st.integers(0, 9999), st.integers(0, 30_000), LANGS))
    metadata = {"price": f"{cents // 100}.{cents % 100:02}", "day": str(date(1970, 1, 1) + timedelta(days))}
    document = Document(draw(TITLES), draw(TEXTS), metadata | ({"lang": lang} if lang else {}))
    row = {"title": document.title, "body": document.text, "price": cents.to_bytes(2), "day": days, "lang": lang}
    value = WRITERS[3 if lang else draw(st.integers(2, 3))](row)
    says = {0: Said(str(id), at, document)} if document.text else "text_blank"
    return Sent(value, says, at, draw(PARTITIONS), WRITERS[1]({"id": id}))


def tombstone(id, at, partition):
    return Sent(None, {0: Said(str(id), at, None)}, at, partition, WRITERS[1]({"id": id}))


@st.composite
def tickets(draw):
    """An item may come twice in one record; of the kinds one is deleted, and one left out."""
    ticket, rev, lang, title = draw(st.tuples(IDS, TIMES, LANGS, TITLES))
    items = draw(st.none() | st.lists(st.tuples(st.integers(0, 2), TEXTS, st.sampled_from(KINDS)), max_size=4))
    row = {"ticket": ticket, "title": title, "rev": rev, "lang": lang, "comments": None}
    says = "each_not_a_list"
    if items is not None:
        row["comments"] = [{"n": n, "body": "\n\n".join(text), "kind": kind} for n, text, kind in items]
        says = said_by(ticket, rev, items, lambda text: Document(title, text, {"lang": lang} if lang else {}))
    return Sent(WRITERS[5 if lang else draw(st.integers(4, 5))](row), says, draw(TIMES), draw(PARTITIONS))


def said_by(ticket, rev, items, document):
    """One text that is blank makes the record a dead letter."""
    said = {
        number: Said(f"{ticket}:{n}", rev, None if kind == "GONE" else document(text))
        for number, (n, text, kind) in enumerate(items)
        if kind != "INTERNAL"
    }
    return "text_blank" if any(each.document and not each.document.text for each in said.values()) else said


KINDS = ("PUBLIC", "PUBLIC", "GONE", "INTERNAL")
WHOLE = {
    "articles": WRITERS[2]({"title": "One", "body": PARAGRAPHS[0], "price": None, "day": 0}),
    "tickets": WRITERS[4]({"ticket": 1, "title": "One", "comments": [], "rev": 9}),
}


def broken(of, keys):
    whole = WHOLE[of]
    values = st.sampled_from(
        [
            *((raw, "not_framed") for raw in (b"", b"\0", b"\0\0\0\0\0", b'{"body": "a"}', b"\xff\xfe", whole[5:])),
            *((raw, "bad_avro") for raw in (whole[:5], whole[:-1], whole + b"\0", whole[:5] + b"\xff" * 20)),
            (framed(UNKNOWN, whole[5:]), "schema_unknown"),
            (framed(UNUSABLE, whole[5:]), "schema_unusable"),
        ]
    )
    return st.builds(lambda raw, at, partition, key: Sent(*raw, at, partition, key), values, TIMES, PARTITIONS, keys)


def broken_keys(values):
    keys = st.sampled_from(
        [(b"text", "not_framed"), (framed(1, b""), "bad_avro"), (framed(UNKNOWN, b"\2"), "schema_unknown")]
    )
    return st.builds(lambda key, at, value: Sent(value, key[1], at, 0, key[0]), keys, TIMES, st.sampled_from(values))


PIPELINES = {
    "articles": (
        Decoding(
            format={"key": "registry", "value": "registry"}, id="key.id", text="value.body", chunks=CHUNKS,
            metadata={"lang": "value.lang", "price": "value.price", "day": "value.day"},
        ),
        articles() | articles() | st.builds(tombstone, IDS, TIMES, PARTITIONS)
        | broken("articles", KEYS) | broken_keys([None, WHOLE["articles"]]),
    ),
    "tickets": (
        Decoding(
            format="registry", id=("value.ticket", "item.n"), text="item.body", chunks=CHUNKS, version="value.rev",
            each="value.comments", where="item.kind != 'INTERNAL'", delete="item.kind == 'GONE'",
            metadata={"lang": "value.lang"},
        ),
        tickets() | tickets() | broken("tickets", st.none()),
    ),
}  # fmt: skip


def expected(sent, places):
    """The documents by id, None for those that are gone."""
    newest = {}
    for record, place in zip(sent, places, strict=True):
        for number, said in record.says.items() if isinstance(record.says, dict) else ():
            version = (said.order, *place, number)
            if not is_poisoned(said) and version > newest.get(said.id, ((-1,), None))[0]:
                newest[said.id] = (version, said.document)
    return {id: document for id, (_, document) in newest.items()}


def is_poisoned(said):
    return said.document is not None and POISON in said.document.paragraphs
