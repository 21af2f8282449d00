"""Documents: messages whose text is cut into chunks, each with a vector of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedstream.decode.chunks import Chunk
    from embedstream.ingest import Embedded


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
