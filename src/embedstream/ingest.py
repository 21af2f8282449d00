"""The heart: one micro-batch of records in, one outcome per record out.

Plain Python over an embedder and a store, which it knows by their protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from embedstream.errors import Rejected
from embedstream.message import Delete, Message, Record, Rules, Version, decode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from embedstream.retry import Patience

Kind: TypeAlias = Literal["stored", "deleted", "unchanged", "superseded", "rejected"]


class Outcome(NamedTuple):
    """What became of a record; `error` is there where it was rejected."""

    kind: Kind
    error: Rejected | None = None


class Embedded(NamedTuple):
    """A text's vector (float32, shape (dimension,)), its tokens before truncation, and whether it was truncated."""

    vector: npt.NDArray[np.float32]
    token_count: int
    truncated: bool


class Known(NamedTuple):
    """What the store holds of an id; `content_hash` is None where it holds no row with a vector."""

    version: Version
    content_hash: bytes | None


class Change(NamedTuple):
    """One row to write; a message without `embedded` keeps the vector that its text has already."""

    item: Message | Delete
    embedded: Embedded | None = None


class Written(NamedTuple):
    """The ids whose change took effect, and those that the store can never take.

    An id in neither met a newer version, or another text than the one looked up.
    """

    won: Collection[str]
    rejected: Mapping[str, Rejected]


class Embedder(Protocol):
    """Turns texts into vectors."""

    def embed(self, texts: Sequence[str]) -> Iterator[Sequence[tuple[int, Embedded | Rejected]]]:
        """Starts at once, and yields results with their positions in `texts`, in any order, chunk by chunk."""
        ...


class Store(Protocol):
    """Keeps the table; both methods raise RetryLater where the database has trouble."""

    def look_up(self, ids: Sequence[str]) -> Mapping[str, Known]:
        """What is known of each id."""
        ...

    def write(self, changes: Sequence[Change]) -> Written:
        """Write changes of distinct ids in one transaction, each only over an older version."""
        ...


class Ingest:
    """Decodes, embeds and stores micro-batches.

    Trouble of the database is waited out with `patience`; that of the embedder is the embedder's own matter.
    `texts_embedded` and `texts_known` count the texts that the embedder was asked for, and the messages whose text had
    the hash that the store knew.
    """

    def __init__(self, embedder: Embedder, store: Store, rules: Rules, patience: Patience) -> None:
        self._embedder = embedder
        self._store = store
        self._rules = rules
        self._patience = patience
        self.texts_embedded = 0
        self.texts_known = 0

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        """The outcome of each record, in their order; every accepted change is committed when this returns."""
        batch = _Batch(records, self._rules)
        while heads := batch.heads():
            self._settle(batch, heads)
        return batch.outcomes()

    def _settle(self, batch: _Batch, heads: Mapping[str, Message | Delete]) -> None:
        known = self._patience(lambda: self._store.look_up(list(heads)))
        ready: list[Change] = []
        texts: dict[str, list[Message]] = {}
        for id, item in heads.items():
            if id in known and known[id].version >= item.version:
                batch.supersede(id, known[id].version)
            elif isinstance(item, Delete) or (id in known and known[id].content_hash == item.content_hash):
                ready.append(Change(item))
            else:
                texts.setdefault(item.text, []).append(item)
        self.texts_embedded += len(texts)
        self.texts_known += sum(isinstance(change.item, Message) for change in ready)
        chunks = self._embedder.embed(list(texts))
        self._write(batch, ready)
        waiting = list(texts.values())
        for chunk in chunks:
            self._write(batch, _accepted(batch, ((waiting[position], result) for position, result in chunk)))

    def _write(self, batch: _Batch, changes: Sequence[Change]) -> None:
        if not changes:
            return
        written = self._patience(lambda: self._store.write(changes))
        for id, error in written.rejected.items():
            batch.reject(id, error)
        kinds = {change.item.id: _kind(change) for change in changes}
        for id in written.won:
            batch.win(id, kinds[id])


def _accepted(batch: _Batch, results: Iterable[tuple[Sequence[Message], Embedded | Rejected]]) -> list[Change]:
    changes = []
    for messages, result in results:
        for message in messages:
            if isinstance(result, Rejected):
                batch.reject(message.id, result)
            else:
                changes.append(Change(message, result))
    return changes


def _unexpected(exc: Exception) -> Rejected:
    return Rejected("decode", "unexpected", f"reading the record failed ({type(exc).__name__})")


def _kind(change: Change) -> Kind:
    if isinstance(change.item, Delete):
        return "deleted"
    return "stored" if change.embedded else "unchanged"


class _Batch:
    """The records of a micro-batch on their way to their outcomes.

    Of each id only the newest version goes forward; where it is rejected, the next older one takes its place.
    """

    def __init__(self, records: Sequence[Record], rules: Rules) -> None:
        self._outcomes: dict[int, Outcome] = {}
        self._waiting: dict[str, list[tuple[Version, int, Message | Delete]]] = {}
        self._size = len(records)
        for position, record in enumerate(records):
            try:
                item = decode(record, rules)
            except Rejected as exc:
                self._outcomes[position] = Outcome("rejected", exc)
            except Exception as exc:  # noqa: BLE001 - no bytes, whatever they are, may restart the job
                self._outcomes[position] = Outcome("rejected", _unexpected(exc))
            else:
                self._waiting.setdefault(item.id, []).append((item.version, position, item))
        for versions in self._waiting.values():
            versions.sort(key=lambda entry: entry[:2])

    def heads(self) -> dict[str, Message | Delete]:
        """The newest version of each id that has no outcome yet."""
        return {id: versions[-1][2] for id, versions in self._waiting.items()}

    def win(self, id: str, kind: Kind) -> None:
        version, position, _ = self._waiting[id].pop()
        self._outcomes[position] = Outcome(kind)
        self.supersede(id, version)

    def reject(self, id: str, error: Rejected) -> None:
        _, position, _ = self._waiting[id].pop()
        self._outcomes[position] = Outcome("rejected", error)
        if not self._waiting[id]:
            del self._waiting[id]

    def supersede(self, id: str, by: Version) -> None:
        """Settle all that is left of an id; the very version that is stored already was delivered twice."""
        for version, position, _ in self._waiting.pop(id):
            self._outcomes[position] = Outcome("unchanged" if version == by else "superseded")

    def outcomes(self) -> list[Outcome]:
        return [self._outcomes[position] for position in range(self._size)]
