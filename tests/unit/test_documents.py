import json

from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode.chunks import Splitter
from embedstream.decode.default import decoder
from embedstream.decode.message import Message, Record, Rules, content_hash, embedded_text
from embedstream.decode.spec import Chunks
from embedstream.documents import DocumentIngest
from embedstream.errors import Rejected
from embedstream.retry import Patience
from support.fakes import HashEmbedder, MemoryDocuments
from support.tokenizers import words

RULES = Rules("org/model", 1_000_000)
T0 = 1_764_000_000_000
SPLITTER = Splitter(Chunks(tokens=16), words())
PARTS = [f"This is part {n} of a document, and a chunk has no room for another." for n in range(8)]
LONG = "\n\n".join(PARTS)


def ingest_over(store=None, embedder=None, splitter=SPLITTER, decode=None):
    patience, decode = Patience(sleep=lambda _: None), decode or decoder(RULES)
    return DocumentIngest(embedder or HashEmbedder(), store or MemoryDocuments(), decode, patience, splitter)


def message(id, text, offset, **fields):
    return Record(id.encode(), json.dumps({"id": id, "text": text, **fields}).encode(), "t", 0, offset, T0 + offset)


def delete(id, offset):
    return Record(id.encode(), None, "t", 0, offset, T0 + offset)


def kinds(outcomes):
    return [outcome.kind for outcome in outcomes]


def texts(store, id):
    return [chunk.text for chunk, _ in store.chunks[id].values()]


def test_a_document_is_stored_as_its_chunks():
    store, embedder = MemoryDocuments(), HashEmbedder()
    assert kinds(ingest_over(store, embedder)([message("a", LONG, 0), message("b", "Short.", 1)])) == ["stored"] * 2
    assert texts(store, "a") == PARTS
    assert texts(store, "b") == ["Short."]
    assert sorted(embedder.embedded) == sorted([*PARTS, "Short."])
    for chunk, embedded in store.chunks["a"].values():
        assert embedded.vector.tolist() == embedder.vector(chunk.text).tolist()


def test_only_new_chunks_are_embedded():
    store, embedder = MemoryDocuments(), HashEmbedder()
    ingest = ingest_over(store, embedder)
    ingest([message("a", LONG, 0)])
    embedder.embedded.clear()
    edited = LONG.replace("part 3", "part three")
    assert kinds(ingest([message("a", edited, 1)])) == ["stored"]
    assert embedder.embedded == [PARTS[3].replace("part 3", "part three")]
    assert kinds(ingest([message("a", "\n\n".join(PARTS[5:]), 2)])) == ["stored"]
    assert texts(store, "a") == PARTS[5:]
    assert len(embedder.embedded) == 1
    assert kinds(ingest([message("a", "\n\n".join(PARTS[5:]), 3, metadata={"n": 1})])) == ["unchanged"]
    assert kinds(ingest([delete("a", 4)])) == ["deleted"]
    assert store.chunks == {}


def test_chunks_that_several_documents_have_are_embedded_once():
    embedder = HashEmbedder()
    ingest = ingest_over(embedder=embedder)
    ingest(
        [
            message(str(n), f"{LONG}\n\nDocument {n} ends so, with as many words as a chunk takes in.", n)
            for n in range(5)
        ]
    )
    assert len(embedder.embedded) == len(PARTS) + 5 == ingest.texts_embedded


def test_many_large_documents_are_cut_while_others_are_embedded():
    store = MemoryDocuments()
    records = [message(str(n), " ".join(f"{n}-{m}" for m in range(5000)), n) for n in range(12)]
    assert kinds(ingest_over(store)(records)) == ["stored"] * 12
    assert len(store.chunks) == 12
    assert len(store.chunks["11"]) > 300


def test_a_chunk_that_the_service_refuses_rejects_its_document_by_name_and_the_version_before_stays():
    store = MemoryDocuments()
    ingest = ingest_over(store, HashEmbedder(poison=["poison"]))
    poisoned = LONG.replace("part 3", "poison 3")
    outcomes = ingest([message("a", LONG, 0), message("a", poisoned, 1), message("b", "Fine.", 2)])
    assert kinds(outcomes) == ["stored", "rejected", "stored"]
    assert outcomes[1].error.code == "refused"
    assert outcomes[1].error.reason.startswith("chunk 4 of 8 (characters ")
    assert texts(store, "a") == PARTS


class Unseeing(HashEmbedder):
    def _one(self, text):
        if "???" in text:
            return Rejected("embed", "text_unknown", "the model sees nothing of it")
        return super()._one(text)


def test_chunks_of_which_the_model_sees_nothing_are_left_out_and_counted():
    seen = []

    class Looking(MemoryDocuments):
        def write(self, changes, advance=None):
            seen.extend(change.embedded.unseen for change in changes)
            return super().write(changes, advance)

    store = Looking()
    outcomes = ingest_over(store, Unseeing())(
        [message("a", LONG.replace("part 3", "??? 3"), 0), message("b", "???", 1)]
    )
    assert kinds(outcomes) == ["stored", "rejected"]
    assert outcomes[1].error.code == "text_unknown"
    assert texts(store, "a") == [*PARTS[:3], *PARTS[4:]]
    assert [chunk.seq for chunk, _ in store.chunks["a"].values()] == [0, 1, 2, 4, 5, 6, 7]
    assert seen == [1]


def test_a_document_of_too_many_chunks_holds_nothing_else_up():
    outcomes = ingest_over()([message("a", "word " * 16 * 5000, 0), message("b", "Fine.", 1)])
    assert kinds(outcomes) == ["rejected", "stored"]
    assert outcomes[0].error.code == "too_many_chunks"


def with_titles(record):
    """Records have a title, the prefix; a text that is null is that of the version before."""
    body = json.loads(record.value)
    (item,) = decoder(RULES)(record._replace(value=json.dumps(body | {"text": "x"}).encode()))
    assert isinstance(item, Message)
    text, title = body["text"], body.get("title", "")
    hash_ = None if text is None else content_hash(text, title)
    return [item._replace(text=text, content_hash=hash_, prefix=title)]


def test_another_title_over_a_text_that_the_source_left_out():
    store, embedder = MemoryDocuments(), HashEmbedder()
    ingest = ingest_over(store, embedder, Splitter(Chunks(tokens=32), words()), with_titles)
    short = "Where is my parcel?"
    ingest([message("a", short, 0, title="One")])
    assert embedder.embedded == ["One\n\nWhere is my parcel?"]
    assert kinds(ingest([message("a", None, 1, title="One", metadata={"n": 1})])) == ["unchanged"]
    assert kinds(ingest([message("a", None, 2, title="Two"), message("b", None, 3, title="Two")])) == [
        "stored",
        "rejected",
    ]
    assert texts(store, "a") == [short]
    assert embedder.embedded == [embedded_text(title, short) for title in ("One", "Two")]
    assert kinds(ingest([message("c", short, 4, title="C"), message("c", None, 5, title="D")])) == [
        "superseded",
        "stored",
    ]
    assert embedder.embedded[-1] == embedded_text("D", short)


ACTIONS = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.lists(st.sampled_from(PARTS), min_size=1, max_size=5))),
    max_size=12,
)  # fmt: skip


@given(ACTIONS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_and_any_duplication_of_documents_end_in_one_state(actions, random, batch_size):
    records = [
        delete(id, offset) if parts is None else message(id, "\n\n".join(parts), offset)
        for offset, (id, parts) in enumerate(actions)
    ]
    deliveries = records + random.choices(records, k=len(records) // 2) if records else []
    random.shuffle(deliveries)
    store, embedder = MemoryDocuments(), HashEmbedder()
    ingest = ingest_over(store, embedder)
    for start in range(0, len(deliveries), batch_size):
        ingest(deliveries[start : start + batch_size])
    expected = {id: SPLITTER.split("\n\n".join(parts)) for id, parts in dict(actions).items() if parts is not None}
    assert {id: [chunk for chunk, _ in rows.values()] for id, rows in store.chunks.items()} == expected
    for rows in store.chunks.values():
        for chunk, embedded in rows.values():
            assert embedded.vector.tolist() == embedder.vector(chunk.text).tolist()
