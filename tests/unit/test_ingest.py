import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode.default import decode, decoder
from embedstream.decode.message import Delete, Message, Record, Rules, Version, content_hash
from embedstream.errors import StoreUnavailable
from embedstream.ingest import Ingest, Written
from embedstream.retry import Patience
from support.fakes import HashEmbedder, MemoryStore

RULES = Rules("org/model", 1000)
T0 = 1_764_000_000_000


def ingest_over(store=None, embedder=None, patience=None, decode=None):
    patience = patience or Patience(sleep=lambda _: None)
    return Ingest(embedder or HashEmbedder(), store or MemoryStore(), decode or decoder(RULES), patience)


def message(id, text, offset, *, at=0, partition=0, **fields):
    value = json.dumps({"id": id, "text": text, **fields}).encode()
    return Record(id.encode(), value, "t", partition, offset, T0 + at)


def delete(id, offset, *, at=0, partition=0):
    return Record(id.encode(), None, "t", partition, offset, T0 + at)


def kinds(outcomes):
    return [outcome.kind for outcome in outcomes]


def test_an_empty_batch():
    assert ingest_over()([]) == []


def test_each_record_gets_its_outcome_in_order():
    ingest = ingest_over()
    records = [
        message("a", "one", 0), Record(None, b"garbage", "t", 0, 1, T0), delete("b", 2), message("a", "two", 3),
        message("c", "one", 4),
    ]  # fmt: skip
    assert kinds(ingest(records)) == ["superseded", "rejected", "deleted", "stored", "stored"]


def test_the_newest_version_of_an_id_wins_within_a_batch_and_across_batches():
    store = MemoryStore()
    ingest = ingest_over(store)
    assert kinds(ingest([message("a", "new", 3, at=10), message("a", "old", 2, at=5)])) == ["stored", "superseded"]
    assert kinds(ingest([message("a", "older", 1, at=1)])) == ["superseded"]
    assert store.table["a"]["text"] == "new"


def test_an_old_version_does_not_resurrect_a_deleted_id():
    store = MemoryStore()
    ingest = ingest_over(store)
    assert kinds(ingest([delete("a", 5, at=10)])) == ["deleted"]
    assert kinds(ingest([message("a", "old", 4, at=9)])) == ["superseded"]
    assert store.table == {}
    assert kinds(ingest([message("a", "new life", 7, at=11)])) == ["stored"]


def test_a_text_that_did_not_change_is_not_embedded_again_but_its_metadata_moves_on():
    store, embedder = MemoryStore(), HashEmbedder()
    ingest = ingest_over(store, embedder)
    ingest([message("a", "same", 0)])
    assert kinds(ingest([message("a", "same", 1, at=1, metadata={"n": 2})])) == ["unchanged"]
    assert store.table["a"]["metadata"] == '{"n":2}'
    assert embedder.embedded == ["same"]
    assert (ingest.texts_embedded, ingest.texts_known) == (1, 1)


def test_replaying_everything_embeds_nothing():
    store, embedder = MemoryStore(), HashEmbedder()
    ingest = ingest_over(store, embedder)
    records = [message("a", "x", 0), message("a", "y", 1, at=1), delete("b", 2), message("c", "z", 3)]
    ingest(records)
    embedder.embedded.clear()
    assert kinds(ingest(records)) == ["superseded", "unchanged", "unchanged", "unchanged"]
    assert embedder.embedded == []


def test_equal_texts_of_a_batch_are_embedded_once():
    embedder = HashEmbedder()
    assert kinds(ingest_over(embedder=embedder)([message(str(n), "same", n) for n in range(5)])) == ["stored"] * 5
    assert embedder.embedded == ["same"]


@pytest.mark.parametrize("stage", ["embed", "store"])
def test_a_poisonous_text_costs_only_itself_and_the_version_before_it_stays(stage):
    store = MemoryStore(refuse=["poison"] if stage == "store" else ())
    embedder = HashEmbedder(poison=["poison"] if stage == "embed" else ())
    outcomes = ingest_over(store, embedder)(
        [message("a", "good", 0), message("a", "poison", 1, at=1), message("b", "fine", 2)]
    )
    assert kinds(outcomes) == ["stored", "rejected", "stored"]
    assert outcomes[1].error.stage == stage
    assert store.table["a"]["text"] == "good"
    assert store.ledger["a"][0].offset == 0


def test_trouble_of_the_store_is_waited_out():
    class Shaky(MemoryStore):
        failures = 3

        def look_up(self, ids):
            self.failures -= 1
            if self.failures >= 0:
                raise StoreUnavailable("away")
            return super().look_up(ids)

    waits = []
    assert kinds(ingest_over(Shaky(), patience=Patience(sleep=waits.append))([message("a", "x", 0)])) == ["stored"]
    assert len(waits) == 3


def test_a_text_that_moved_between_look_up_and_lock_is_embedded_after_all():
    class Racing(MemoryStore):
        raced = False

        def write(self, changes, advance=None):
            if not self.raced:
                self.raced = True
                other = decode(message("a", "other text", 1, at=1), RULES)
                self.ledger["a"] = (other.version, other.content_hash)
                self.table["a"]["text"] = "other text"
            return super().write(changes, advance)

    store, embedder = Racing(), HashEmbedder()
    ingest = ingest_over(store, embedder)
    store.raced = True
    ingest([message("a", "same", 0)])
    store.raced = False
    assert kinds(ingest([message("a", "same", 2, at=2)])) == ["stored"]
    assert store.table["a"]["text"] == "same"
    assert embedder.embedded == ["same", "same"]


def test_a_change_that_another_writer_overtook_is_superseded():
    class Overtaken(MemoryStore):
        def write(self, changes, advance=None):
            for change in changes:
                self.ledger[change.item.id] = (change.item.version._replace(offset=99), b"h")
            return Written((), {})

    assert kinds(ingest_over(Overtaken())([message("a", "x", 0)])) == ["superseded"]


IDS = st.sampled_from("abc")
ACTIONS = st.lists(
    st.tuples(IDS, st.sampled_from(["one", "two", "poison", None]), st.integers(-5, 5), st.integers(0, 1)), max_size=12
)


@given(ACTIONS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_and_any_duplication_end_in_one_state(actions, random, batch_size):
    records = [
        delete(id, offset, at=at, partition=partition) if text is None
        else message(id, text, offset, at=at, partition=partition, metadata={"offset": offset})
        for offset, (id, text, at, partition) in enumerate(actions)
    ]  # fmt: skip
    deliveries = records + random.choices(records, k=len(records) // 2) if records else []
    random.shuffle(deliveries)
    store, embedder = MemoryStore(), HashEmbedder(poison=["poison"])
    ingest = ingest_over(store, embedder)
    for start in range(0, len(deliveries), batch_size):
        ingest(deliveries[start : start + batch_size])
    assert {id: (row["text"], row["metadata"]) for id, row in store.table.items()} == expected(records)
    for row in store.table.values():
        assert row["embedding"].tolist() == embedder.vector(row["text"]).tolist()


def expected(records):
    """The newest accepted version of each id, by the rule of the design, computed without `ingest`."""
    newest = {}
    for record in records:
        body = json.loads(record.value) if record.value else None
        if body and body["text"] == "poison":
            continue
        version = (record.timestamp, record.partition, record.offset)
        newest[record.key] = max(newest.get(record.key, (version, body)), (version, body), key=lambda entry: entry[0])
    return {
        key.decode(): (body["text"], json.dumps(body["metadata"], separators=(",", ":")))
        for key, (_, body) in newest.items()
        if body
    }


def several(record):
    """A record as the list of what it asks for; null leaves the text out, a number is left out itself."""
    moment = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    items = []
    for number, (id, text) in enumerate(json.loads(record.value)):
        version = Version(moment, record.topic, record.partition, record.offset, number)
        if text == "gone":
            items.append(Delete(id, version))
        elif not isinstance(text, int):
            hash_ = None if text is None else content_hash(text)
            items.append(Message(id, version, text, hash_, moment, None, json.dumps({"at": record.offset})))
    return items


def holding(offset, *items):
    return Record(None, json.dumps(items).encode(), "t", 0, offset, T0)


def test_each_message_of_a_record_has_its_outcome():
    store = MemoryStore()
    ingest = ingest_over(store, decode=several)
    whole, none = ingest([holding(0, ["a", "one"], ["b", 7], ["c", "two"], ["a", "three"]), holding(1, ["b", 7])])
    assert {item: outcome.kind for item, outcome in whole.items.items()} == {0: "superseded", 2: "stored", 3: "stored"}
    assert (none.kind, store.table["a"]["text"], store.progress["t", 0].next) == ("filtered", "three", 2)
    assert kinds(ingest([holding(0, ["a", "one"], ["b", 7], ["c", "two"], ["a", "three"])])) == ["superseded"]


def test_a_record_is_a_dead_letter_for_those_of_its_messages_that_are_rejected():
    store = MemoryStore()
    ingest = ingest_over(store, HashEmbedder(poison={"bad"}), decode=several)
    (outcome,) = ingest([holding(0, ["a", "one"], ["b", 7], ["c", "bad"])])
    assert (outcome.kind, outcome.error.stage, outcome.rejected_items) == ("rejected", "embed", [2])
    assert outcome.error.reason.startswith("item 2: ")
    assert store.table.keys() == {"a"}


@pytest.mark.parametrize("batches", [[[0, 1]], [[0], [1]], [[0], [0, 1], [1]]])
def test_a_text_that_is_left_out_is_that_of_the_version_before(batches):
    store, embedder = MemoryStore(), HashEmbedder()
    ingest = ingest_over(store, embedder, decode=several)
    records = [holding(0, ["a", "one"]), holding(1, ["a", None])]
    for batch in batches:
        ingest([records[number] for number in batch])
    assert (store.ledger["a"][0].offset, store.ledger["a"][1]) == (1, content_hash("one"))
    assert (store.table["a"]["metadata"], embedder.embedded) == ('{"at": 1}', ["one"])


@pytest.mark.parametrize("before", [[], ["gone"], ["one", "gone"]])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_text_that_is_left_out_and_not_known_is_a_dead_letter(before, at_once):
    ingest = ingest_over(decode=several)
    records = [holding(offset, ["a", text]) for offset, text in enumerate([*before, None])]
    outcomes = ingest(records) if at_once else [ingest([record])[0] for record in records]
    assert (outcomes[-1].kind, outcomes[-1].error.code) == ("rejected", "text_unavailable")


def test_trouble_of_the_world_while_a_record_is_read_is_waited_out():
    troubles = [StoreUnavailable("no registry")]

    def decode(record):
        if troubles:
            raise troubles.pop()
        return several(record)

    assert kinds(ingest_over(decode=decode)([holding(0, ["a", "one"])])) == ["stored"]
