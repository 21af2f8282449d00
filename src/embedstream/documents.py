"""Documents: messages whose text is cut into chunks, each with a vector of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from embedstream.decode.message import content_hash, embedded_text
from embedstream.errors import Rejected
from embedstream.ingest import Ingest, Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from embedstream.decode.chunks import Chunk, Splitter
    from embedstream.decode.message import Decode, Message
    from embedstream.ingest import Embedded, Embedder, Known, Result, _Batch
    from embedstream.retry import Patience

# What the service says of a text of which its model sees nothing: a document has other chunks.
_UNSEEN = frozenset({"text_invisible", "text_unknown"})
_EMPTY = Rejected("decode", "text_blank", "the text has nothing visible")
_GROUP_CHARACTERS = 65_536


class Held(NamedTuple):
    """What the store holds of a document: the hash of the ledger, and the keys of its chunks.

    All of one moment: as long as the hash is the same, so are the keys.
    """

    content_hash: bytes | None = None
    keys: frozenset[bytes] = frozenset()


class Chunked(NamedTuple):
    """What a document is to become: all its chunks, and by key the vectors of those that are not `held`.

    `unseen` counts chunks that are left out, since the model sees nothing of them.
    """

    chunks: Sequence[Chunk]
    embedded: Mapping[bytes, Embedded]
    held: Held = Held()
    unseen: int = 0


class Uncut(Protocol):
    """A text that is to be cut."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def prefix(self) -> str: ...


_U = TypeVar("_U", bound=Uncut)


class Documents(Store, Protocol):
    """A store of documents."""

    def look_up_chunks(self, ids: Sequence[str]) -> Mapping[str, Held]:
        """What is held of each document; of one that is not there, nothing."""
        ...

    def read_text(self, id: str, content_hash: bytes) -> str | None:
        """The text of a document; None where it has another version by now."""
        ...


class DocumentIngest(Ingest):
    """As Ingest, for messages that are documents: what is embedded are the chunks that the store does not hold.

    `texts_embedded` counts chunks.
    """

    def __init__(
        self, embedder: Embedder, store: Documents, decode: Decode, patience: Patience, splitter: Splitter
    ) -> None:
        super().__init__(embedder, store, decode, patience)
        self._documents = store
        self._splitter = splitter

    def _embed(self, messages: Sequence[Message]) -> Iterator[Iterable[Result]]:
        groups = _groups(messages)
        return self._in_turn(groups, self._begin(next(groups, [])))

    def _in_turn(
        self, groups: Iterator[Sequence[Message]], begun: Iterator[Iterable[Result]]
    ) -> Iterator[Iterable[Result]]:
        """While the chunks of one group are embedded, the next is cut."""
        for group in groups:
            following = self._begin(group)
            yield from begun
            begun = following
        yield from begun

    def _begin(self, messages: Sequence[Message]) -> Iterator[Iterable[Result]]:
        held = self._patience(lambda: self._documents.look_up_chunks([message.id for message in messages]))
        count, results = cut_and_embed(messages, held, self._splitter, self._embedder)
        self.texts_embedded += count
        return results

    def _complete(self, batch: _Batch, head: Message, stands: Known | None) -> Message | None:
        """With the text itself: another prefix makes other chunks of it."""
        item = super()._complete(batch, head, stands)
        if item is None or item.text is not None or item.content_hash is None:
            return item
        hash_ = item.content_hash
        text = self._patience(lambda: self._documents.read_text(head.id, hash_))
        # Without one, another version was written meanwhile: the store refuses the change, and all is looked up again.
        return item if text is None else item._replace(text=text, content_hash=content_hash(text, head.prefix))


def cut_and_embed(
    messages: Sequence[_U], held: Mapping[str, Held], splitter: Splitter, embedder: Embedder
) -> tuple[int, Iterator[Iterable[tuple[_U, Chunked | Rejected]]]]:
    """The number of chunks that are embedded, and each message with what it is to become, in any order, part by part.

    Starts at once; `held` has each message's id.
    """
    drafts = [_Draft(message, held[message.id]) for message in messages]
    texts: dict[str, list[tuple[_Draft[_U], Chunk]]] = {}
    for draft in drafts:
        for chunk in draft.cut(splitter):
            texts.setdefault(embedded_text(draft.message.prefix, chunk.text), []).append((draft, chunk))
    return len(texts), _as_they_are_done(drafts, list(texts.values()), embedder.embed(list(texts)))


class _Draft(Generic[_U]):
    """A document on its way: which of its chunks still lack their vectors."""

    def __init__(self, message: _U, held: Held) -> None:
        self.message = message
        self._held = held
        self._chunks: Sequence[Chunk] = ()
        self._embedded: dict[bytes, Embedded] = {}
        self._unseen: dict[bytes, Rejected] = {}
        self._error: Rejected | None = None
        self.lacks = 0

    def cut(self, splitter: Splitter) -> list[Chunk]:
        """The chunks that are to be embedded."""
        try:
            self._chunks = splitter.split(self.message.text or "", self.message.prefix)
        except Rejected as exc:
            self._error = exc
        new = [chunk for chunk in self._chunks if chunk.key not in self._held.keys]
        self.lacks = len(new)
        return new

    def take(self, chunk: Chunk, result: Embedded | Rejected) -> None:
        self.lacks -= 1
        if not isinstance(result, Rejected):
            self._embedded[chunk.key] = result
        elif result.code in _UNSEEN:
            self._unseen[chunk.key] = result
        else:
            self._error = self._error or self._named(chunk, result)

    def result(self) -> tuple[_U, Chunked | Rejected]:
        if self._error:
            return self.message, self._error
        chunks = [chunk for chunk in self._chunks if chunk.key not in self._unseen]
        if not chunks:
            return self.message, next(iter(self._unseen.values()), _EMPTY)
        return self.message, Chunked(chunks, self._embedded, self._held, len(self._unseen))

    def _named(self, chunk: Chunk, error: Rejected) -> Rejected:
        place = f"chunk {chunk.seq + 1} of {len(self._chunks)} (characters {chunk.start} to {chunk.end})"
        return Rejected(error.stage, error.code, f"{place}: {error.reason}")


def _as_they_are_done(
    drafts: Sequence[_Draft[_U]],
    waiting: Sequence[Sequence[tuple[_Draft[_U], Chunk]]],
    results: Iterator[Sequence[tuple[int, Embedded | Rejected]]],
) -> Iterator[Iterable[tuple[_U, Chunked | Rejected]]]:
    yield [draft.result() for draft in drafts if not draft.lacks]
    for part in results:
        done = []
        for draft, chunk, result in ((*pair, result) for position, result in part for pair in waiting[position]):
            draft.take(chunk, result)
            if not draft.lacks:
                done.append(draft.result())
        yield done


def _groups(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    group: list[Message] = []
    size = 0
    for message in messages:
        group.append(message)
        size += len(message.text or "")
        if size >= _GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group
