"""Stand-ins for the embedder and the store, where a test is about neither."""

import hashlib

import numpy as np

from embedstream.decode.message import Delete
from embedstream.documents import Chunked, Held
from embedstream.errors import Rejected
from embedstream.ingest import Embedded, Known, Step, Written


class HashEmbedder:
    """Vectors from the text's hash; refuses texts that contain a word of `poison`."""

    def __init__(self, dimension=4, poison=(), chunk=3):
        self.dimension = dimension
        self.poison = poison
        self.chunk = chunk
        self.embedded = []

    def vector(self, text):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)

    def embed(self, texts):
        self.embedded.extend(texts)
        for start in range(0, len(texts), self.chunk):
            yield [(p, self._one(texts[p])) for p in range(start, min(start + self.chunk, len(texts)))]

    def _one(self, text):
        if any(word in text for word in self.poison):
            return Rejected("embed", "refused", "the service refuses the text")
        return Embedded(self.vector(text), len(text.split()), False)


class MemoryStore:
    """The store's contract in a few lines: a ledger and a table as dicts."""

    def __init__(self, refuse=()):
        self.refuse = refuse
        self.ledger = {}
        self.table = {}
        self.progress = {}

    def resume(self, starts):
        for place in starts:
            self.progress.setdefault(place, Step(0))

    def advance(self, advance):
        for place, step in advance.items():
            before = self.progress[place]
            self.progress[place] = Step(max(before.next, step.next), before.late + step.late)

    def look_up(self, ids):
        return {
            id: Known(self.ledger[id][0], self.ledger[id][1] if id in self.table else None)
            for id in ids
            if id in self.ledger
        }

    def write(self, changes, advance=None):
        assert len({change.item.id for change in changes}) == len(changes)
        won, rejected = set(), {}
        for change in changes:
            if any(word in (getattr(change.item, "text", "") or "") for word in self.refuse):
                rejected[change.item.id] = Rejected("store", "sqlstate_22000", "PostgreSQL refuses the row")
            elif self._claims(change):
                self._apply(change)
                won.add(change.item.id)
        advances = advance is not None and len(won) == len(changes)
        if advances:
            self.advance(advance)
        return Written(won, rejected, advances)

    def _claims(self, change):
        item = change.item
        version, hash_ = self.ledger.get(item.id, (None, None))
        newer = version is None or version < item.version
        if isinstance(item, Delete) or change.embedded is not None:
            return newer
        return newer and item.id in self.table and hash_ == item.content_hash

    def _apply(self, change):
        item = change.item
        if isinstance(item, Delete):
            self.ledger[item.id] = (item.version, None)
            self.table.pop(item.id, None)
            return
        self.ledger[item.id] = (item.version, item.content_hash)
        vector = change.embedded.vector if change.embedded else self.table[item.id]["embedding"]
        self.table[item.id] = {
            "text": item.text or self.table[item.id]["text"], "embedding": vector, "source": item.source,
            "message_timestamp": item.timestamp, "metadata": item.metadata,
        }  # fmt: skip


class MemoryDocuments(MemoryStore):
    """The contract of a store of documents: `chunks` by id and key, `documents` as rows of messages."""

    def __init__(self, refuse=()):
        super().__init__(refuse)
        self.chunks = {}
        self.documents = self.table

    def look_up_chunks(self, ids):
        return {id: Held(self.ledger.get(id, (None, None))[1], frozenset(self.chunks.get(id, ()))) for id in ids}

    def read_text(self, id, content_hash):
        return self.documents[id]["text"] if self.ledger[id][1] == content_hash else None

    def _claims(self, change):
        if isinstance(change.embedded, Chunked):
            version, hash_ = self.ledger.get(change.item.id, (None, None))
            return (version is None or version < change.item.version) and hash_ == change.embedded.held.content_hash
        return super()._claims(change)

    def _apply(self, change):
        item, chunked = change
        if isinstance(item, Delete):
            self.chunks.pop(item.id, None)
        elif isinstance(chunked, Chunked):
            stands = self.chunks.get(item.id, {})
            self.chunks[item.id] = {
                chunk.key: (
                    chunk,
                    chunked.embedded[chunk.key] if chunk.key in chunked.embedded else stands[chunk.key][1],
                )
                for chunk in chunked.chunks
            }
            change = change._replace(embedded=Embedded(None, 0, False))
        super()._apply(change)
