import json

import numpy as np

from embedstream import store
from embedstream.decode.chunks import Splitter
from embedstream.decode.default import decoder
from embedstream.decode.message import Record, Rules
from embedstream.decode.spec import Chunks
from embedstream.documents import DocumentIngest
from embedstream.retry import Patience
from embedstream.space import Space
from support.fakes import HashEmbedder
from support.threads import failures_of
from support.tokenizers import words

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)
SPLITTER = Splitter(Chunks(tokens=16), words())
PARTS = [f"This is part {n} of a document, and a chunk has no room for another." for n in range(20)]
T0 = 1_764_000_000_000


def ingest_over(settings, embedder):
    table = store.DocumentStore(settings, SPACE)
    return DocumentIngest(embedder, table, decoder(Rules("org/model", 100_000)), Patience(), SPLITTER), table


def record(id, turn):
    parts = [*PARTS[: turn % 7], f"Turn {turn} of document {id} has a part of its own.", *PARTS[turn % 7 :]]
    value = json.dumps({"text": "\n\n".join(parts)}).encode() if turn % 5 else None
    return Record(id.encode(), value, "t", 0, turn, T0 + turn)


def test_writers_of_the_same_documents_end_in_their_newest_versions(database):
    store.prepare(database, SPACE, splitting=SPLITTER.identity)
    ids = [f"id-{n}" for n in range(12)]
    records = [record(id, turn) for turn in range(17) for id in ids]

    def work(seed):
        ingest, table = ingest_over(database, HashEmbedder())
        order = np.random.default_rng(seed).permutation(len(records))
        try:
            for start in range(0, len(order), 30):
                ingest([records[position] for position in order[start : start + 30]])
        finally:
            table.close()

    assert failures_of(work, 3) == []
    with store.connect(database) as connection:
        rows = connection.execute(
            'SELECT id, chunk_key, seq, start, "end", text, embedding FROM text_message_embeddings ORDER BY id, seq'
        ).fetchall()
    expected = [
        (id, *chunk) for id in sorted(ids) for chunk in SPLITTER.split(json.loads(record(id, 16).value)["text"])
    ]
    assert [row[:6] for row in rows] == expected
    for row in rows:
        assert np.array_equal(np.array(row[6], np.float32), HashEmbedder().vector(row[5]))


def test_reading_the_topic_again_embeds_nothing(database):
    store.prepare(database, SPACE, splitting=SPLITTER.identity)
    embedder = HashEmbedder()
    ingest, table = ingest_over(database, embedder)
    records = [record(id, turn) for turn in (1, 2, 4) for id in "abc"]
    ingest(records)
    embedded = len(embedder.embedded)
    assert embedded == len({text for id in "abc" for text in PARTS}) + 3
    assert {outcome.kind for outcome in ingest(records)} == {"superseded", "unchanged"}
    assert len(embedder.embedded) == embedded
    table.close()
