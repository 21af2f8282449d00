"""The heart: one micro-batch of records in, one outcome per record out.

Plain Python over an embedder and a store, which it knows by their protocols.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from embedstream.decode.message import Decode, Delete, Item, Message, Record, Version, attempt, content_hash
from embedstream.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from embedstream.documents import Chunked
    from embedstream.retry import Patience

    _Entry: TypeAlias = tuple[Version, int, Item]
    Result: TypeAlias = "tuple[Message, Embedded | Chunked | Rejected]"

Kind: TypeAlias = Literal["stored", "deleted", "unchanged", "superseded", "late", "filtered", "rejected"]
Place: TypeAlias = tuple[str, int]
"""A partition: its topic and its number."""


_ONE = (0,)


class Outcome(NamedTuple):
    """What became of a record; `error` is there where it was rejected.

    Where several messages came of it, `items` has the outcome of each by its number in the record; one that was
    rejected makes the record a dead letter, whatever became of the others.
    """

    kind: Kind
    error: Rejected | None = None
    items: Mapping[int, Outcome] = MappingProxyType({})

    @property
    def rejected_items(self) -> list[int]:
        """The numbers of the messages that were rejected; none where the record is rejected as a whole."""
        return [number for number, item in self.items.items() if item.error]


class Embedded(NamedTuple):
    """A text's vector (float32, shape (dimension,)), its tokens before truncation (None: nobody counted them), and
    whether it was truncated.
    """

    vector: npt.NDArray[np.float32]
    token_count: int | None
    truncated: bool


class Known(NamedTuple):
    """What the store holds of an id; `content_hash` is None where it holds no row with a vector."""

    version: Version
    content_hash: bytes | None


class Change(NamedTuple):
    """One row to write, or a document; a message without `embedded` keeps what its text has already."""

    item: Item
    embedded: Embedded | Chunked | None = None


class Step(NamedTuple):
    """The offset behind the last record of a partition that has its outcome, and how many of them were late."""

    next: int
    late: int = 0


Advance: TypeAlias = "Mapping[Place, Step]"


class Written(NamedTuple):
    """The ids whose change took effect, those that the store can never take, and whether the progress moved on.

    An id in neither met a newer version, or another text than the one looked up.
    """

    won: Collection[str]
    rejected: Mapping[str, Rejected]
    advanced: bool = False


class Embedder(Protocol):
    """Turns texts into vectors."""

    def embed(self, texts: Sequence[str]) -> Iterator[Sequence[tuple[int, Embedded | Rejected]]]:
        """Starts at once, and yields results with their positions in `texts`, in any order, chunk by chunk."""
        ...


class Store(Protocol):
    """Keeps the table, and how far it is; every method raises RetryLater where the database has trouble."""

    def resume(self, starts: Mapping[Place, int]) -> None:
        """Make sure that nothing was left out before these offsets; what is known already costs nothing."""
        ...

    def look_up(self, ids: Sequence[str]) -> Mapping[str, Known]:
        """What is known of each id."""
        ...

    def write(self, changes: Sequence[Change], advance: Advance | None = None) -> Written:
        """Write changes of distinct ids in one transaction, each only over an older version.

        Where all of them win, the progress moves on in the same transaction.
        """
        ...

    def advance(self, advance: Advance) -> None:
        """Move the progress on by itself."""
        ...


class Ingest:
    """Decodes, embeds and stores micro-batches.

    Trouble of the database is waited out with `patience`; that of the embedder is the embedder's own matter.
    `texts_embedded` and `texts_known` count the texts that the embedder was asked for, and the messages whose text had
    the hash that the store knew.
    """

    def __init__(self, embedder: Embedder, store: Store, decode: Decode, patience: Patience) -> None:
        self._embedder = embedder
        self._store = store
        self._decode = decode
        self._patience = patience
        self.texts_embedded = 0
        self.texts_known = 0

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        """The outcome of each record, in their order; every accepted change is committed when this returns."""
        batch = self._patience(lambda: _Batch(records, self._decode))
        self._patience(lambda: self._store.resume(batch.starts))
        while heads := batch.heads():
            self._settle(batch, heads)
        if not batch.is_recorded and (advance := batch.advance_after(())):
            self._patience(lambda: self._store.advance(advance))
        return batch.outcomes()

    def _settle(self, batch: _Batch, heads: Mapping[str, Item]) -> None:
        known = self._patience(lambda: self._store.look_up(list(heads)))
        ready: list[Change] = []
        changed: list[Message] = []
        for id, head in heads.items():
            stands = known.get(id)
            if stands and stands.version >= head.version:
                batch.supersede(id, stands.version)
                continue
            item = head if isinstance(head, Delete) or head.text is not None else self._complete(batch, head, stands)
            if item is None:
                batch.reject(id, _UNAVAILABLE)
            elif isinstance(item, Delete) or (stands and stands.content_hash == item.content_hash):
                ready.append(Change(item))
            elif item.text is not None:
                changed.append(item)
        self.texts_known += sum(isinstance(change.item, Message) for change in ready)
        results = self._embed(changed)
        self._write(batch, ready)
        for part in results:
            self._write(batch, _accepted(batch, part))

    def _embed(self, messages: Sequence[Message]) -> Iterator[Iterable[Result]]:
        """Starts at once, and yields each message with what it is stored with, in any order, part by part."""
        texts: dict[str, list[Message]] = {}
        for message in messages:
            texts.setdefault(message.text or "", []).append(message)
        self.texts_embedded += len(texts)
        waiting = list(texts.values())
        return (
            [(message, result) for position, result in part for message in waiting[position]]
            for part in self._embedder.embed(list(texts))
        )

    def _complete(self, batch: _Batch, head: Message, stands: Known | None) -> Message | None:
        """The head with the text, or at least its hash, of the version before it; None where there is none."""
        before = batch.before(head.id)
        if before is None or (stands and stands.version >= before.version):
            return head._replace(content_hash=stands.content_hash) if stands and stands.content_hash else None
        if isinstance(before, Delete) or before.text is None:
            return None
        return head._replace(text=before.text, content_hash=content_hash(before.text, head.prefix))

    def _write(self, batch: _Batch, changes: Sequence[Change]) -> None:
        if not changes:
            return
        advance = batch.advance_after(changes)
        written = self._patience(lambda: self._store.write(changes, advance))
        batch.is_recorded = written.advanced
        for id, error in written.rejected.items():
            batch.reject(id, error)
        kinds = {change.item.id: _kind(change) for change in changes}
        for id in written.won:
            batch.win(id, kinds[id])


def _accepted(batch: _Batch, results: Iterable[Result]) -> list[Change]:
    changes = []
    for message, result in results:
        if isinstance(result, Rejected):
            batch.reject(message.id, result)
        else:
            changes.append(Change(message, result))
    return changes


_UNAVAILABLE = Rejected(
    "decode",
    "text_unavailable",
    "the source left the text out, since it did not change, and no version before it is stored: have the source send "
    "it whole (Debezium: REPLICA IDENTITY FULL, or a new snapshot)",
)


def _kind(change: Change) -> Kind:
    if isinstance(change.item, Delete):
        return "deleted"
    return "stored" if change.embedded else "unchanged"


class _Batch:
    """The records of a micro-batch on their way to their outcomes.

    Of each id only the newest version goes forward; where it is rejected, the next older one takes its place.
    `starts` are the first offsets by partition, `is_recorded` says whether the store knows that all have outcomes.
    """

    def __init__(self, records: Sequence[Record], decode: Decode) -> None:
        self._outcomes: dict[int, Outcome] = {}
        self._waiting: dict[str, list[_Entry]] = {}
        self._late: Counter[Place] = Counter()
        # By record, the numbers in it of the messages that came of it, or of the one outcome that it has.
        self._items: list[tuple[int, ...]] = []
        self._count = 0
        self.starts: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self.is_recorded = False
        for record in records:
            self._extend(record)
            self._add(attempt(record, decode))
        for versions in self._waiting.values():
            versions.sort(key=lambda entry: entry[:2])

    def _add(self, items: Sequence[Item] | Rejected) -> None:
        """Number the messages of a record; one of which nothing is to be stored has its outcome at once."""
        numbers: tuple[int, ...] = _ONE
        if isinstance(items, Rejected):
            self._outcomes[self._count] = Outcome("rejected", items)
        elif not items:
            self._outcomes[self._count] = Outcome("filtered")
        else:
            for number, item in enumerate(items, self._count):
                self._waiting.setdefault(item.id, []).append((item.version, number, item))
            if len(items) > 1:
                numbers = tuple(item.version.item for item in items)
        self._items.append(numbers)
        self._count += len(numbers)

    def _extend(self, record: Record) -> None:
        place, offset = (record.topic, record.partition), record.offset
        self.starts[place] = min(offset, self.starts.get(place, offset))
        self._ends[place] = max(offset + 1, self._ends.get(place, 0))

    def heads(self) -> dict[str, Item]:
        """The newest version of each id that has no outcome yet."""
        return {id: versions[-1][2] for id, versions in self._waiting.items()}

    def before(self, id: str) -> Item | None:
        """The version before the newest that says what its text is."""
        older = (item for _, _, item in reversed(self._waiting[id][:-1]))
        return next((item for item in older if isinstance(item, Delete) or item.text is not None), None)

    def advance_after(self, changes: Sequence[Change]) -> Advance | None:
        """How far the batch brings its partitions if these changes win; None where other records are left then."""
        if len(changes) < len(self._waiting):
            return None
        late = self._late.copy()
        for versions in self._waiting.values():
            *losers, (winner, _, _) = versions
            late.update(_place(version) for version, _, item in losers if _fate(item, winner) == "late")
        return {place: Step(end, late[place]) for place, end in self._ends.items()}

    def win(self, id: str, kind: Kind) -> None:
        version, number, _ = self._waiting[id].pop()
        self._outcomes[number] = Outcome(kind)
        self.supersede(id, version)

    def reject(self, id: str, error: Rejected) -> None:
        _, number, _ = self._waiting[id].pop()
        self._outcomes[number] = Outcome("rejected", error)
        if not self._waiting[id]:
            del self._waiting[id]

    def supersede(self, id: str, by: Version) -> None:
        """Settle all that is left of an id."""
        for version, number, item in self._waiting.pop(id):
            fate = _fate(item, by)
            self._outcomes[number] = Outcome(fate)
            if fate == "late":
                self._late[_place(version)] += 1

    def outcomes(self) -> list[Outcome]:
        """Of each record."""
        settled = (self._outcomes[number] for number in range(self._count))
        return [
            next(settled) if items is _ONE else _of_record({item: next(settled) for item in items})
            for items in self._items
        ]


def _of_record(items: Mapping[int, Outcome]) -> Outcome:
    """Of a record that several messages came of."""
    for number, (kind, error, _) in items.items():
        if error:
            return Outcome(kind, Rejected(error.stage, error.code, f"item {number}: {error.reason}"), items)
    return Outcome(next(iter(items.values())).kind, None, items)


def _fate(item: Item, by: Version) -> Kind:
    """Of a record that does not win; the very version that is stored already was delivered twice.

    What came after the winner in its own partition, and says no time of its own, lost only because of a clock.
    """
    version = item.version
    if version == by:
        return "unchanged"
    came_later = _place(version) == _place(by) and version.offset > by.offset
    return "late" if came_later and not item.timed else "superseded"


def _place(version: Version) -> Place:
    return version.topic, version.partition
