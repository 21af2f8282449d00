"""Whether a document has the very chunks that its text gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstream.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.decode.chunks import Splitter


class Document(NamedTuple):
    """As it is stored; `places` are seq, start and end of each chunk, of `unseen` ones the model sees nothing."""

    text: str
    prefix: str
    unseen: int
    keys: Sequence[bytes]
    places: Sequence[Sequence[int]]


def is_sound(document: Document, splitter: Splitter) -> bool:
    """Whether its chunks are all that its text gives, but the unseen ones."""
    try:
        given = {each.key: (each.seq, each.start, each.end) for each in splitter.split(document.text, document.prefix)}
    except Rejected:
        return False
    held = {bytes(key): tuple(place) for key, place in zip(document.keys, document.places, strict=True)}
    return held.items() <= given.items() and len(given) - len(held) == document.unseen
