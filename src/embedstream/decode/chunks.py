"""A long text cut into chunks that the model can read whole.

The library looks for the best boundaries, and its time grows faster than a text without any: so a text goes to it in
pieces of bounded length.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from semantic_text_splitter import TextSplitter

from embedstream.decode.blank import is_blank
from embedstream.decode.fields import reject
from embedstream.decode.message import embedded_text
from embedstream.errors import ConfigError, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.decode.spec import Chunks
    from embedstream.space import Tokenizer

MAX_CHUNKS = 4096
"""Of one document: its vectors are in memory, and in one transaction, together."""
LEAST_TOKENS = 16
"""Of a chunk, once its prefix has its part."""

# To be counted up with every change here that moves a boundary: tables are pinned to it.
_RULES = 1
_PIECE = 16_384
# A prefix takes its tokens in such steps: few splitters are needed, and a title that changes a little moves nothing.
_STEP = 16
_SPLITTERS = 4
_PREFIXES = 1024
_FILLERS = ("a", "1", ".", "the")
_BOUNDARIES = tuple(map(re.compile, (r"\n\s*\n", r"\n", r"(?<=[.!?])\s|[\u3002\uff01\uff1f]", r"\s")))
_CONTEXT = 32


class Chunk(NamedTuple):
    """A part of a document: `text` is its characters from `start` up to, but without, `end`.

    `key` is the SHA-256 of what is embedded, with the prefix, and the number of equal chunks before this one.
    """

    key: bytes
    seq: int
    start: int
    end: int
    text: str


class Splitter:
    """Cuts documents; the same text always gives the same chunks, in time proportional to its length.

    Whatever can be seen of a document is in a chunk; chunks of which nothing can be seen are left out. `identity` names
    all that a boundary depends on. Raises ConfigError where the model cannot read as much as `chunks` asks for.
    """

    def __init__(self, chunks: Chunks, tokenizer: Tokenizer) -> None:
        most = tokenizer.max_tokens - tokenizer.reserved_tokens
        self._tokens = chunks.tokens or most
        if not LEAST_TOKENS <= self._tokens <= most:
            raise ConfigError(
                f"chunks.tokens is {self._tokens}, but the model reads {most} tokens beside its own: "
                f"set it to a number from {LEAST_TOKENS} to {most}, or leave it out"
            )
        self._overlap = chunks.overlap
        if 2 * self._overlap > self._tokens:
            raise ConfigError(f"chunks.overlap is {self._overlap}, more than half of a chunk's {self._tokens} tokens")
        self._json = _without_limits(tokenizer.json)
        self._whole = TextSplitter.from_huggingface_tokenizer_str(self._json, self._tokens)
        self._filler = _filler(self._whole, self._tokens)
        self._splitter = lru_cache(_SPLITTERS)(self._build)
        self._room = lru_cache(_PREFIXES)(self._measure)
        self.identity = (
            f"semantic-text-splitter {version('semantic-text-splitter')}, rules {_RULES}, {self._tokens} tokens, "
            f"overlap {self._overlap}, tokenizer {hashlib.sha256(self._json.encode()).hexdigest()[:12]}"
        )

    def split(self, text: str, prefix: str = "") -> list[Chunk]:
        """Raises Rejected (stage decode) where the prefix leaves no room, or there are more than MAX_CHUNKS."""
        splitter = self._splitter(self._room(prefix) if prefix else self._tokens)
        found: list[Chunk] = []
        counts: Counter[bytes] = Counter()
        for start, part in _parts(splitter, text):
            digest = hashlib.sha256(embedded_text(prefix, part).encode()).digest()
            key = digest + counts[digest].to_bytes(4)
            counts[digest] += 1
            found.append(Chunk(key, len(found), start, start + len(part), part))
            if len(found) > MAX_CHUNKS:
                reject(
                    "too_many_chunks",
                    f"the text gives more than {MAX_CHUNKS} chunks: set chunks.tokens higher, or send it in parts",
                )
        return found

    def _build(self, tokens: int) -> TextSplitter:
        return TextSplitter.from_huggingface_tokenizer_str(self._json, tokens, self._overlap)

    def _measure(self, prefix: str) -> int:
        """The tokens that a chunk may have beside its prefix."""
        least = max(LEAST_TOKENS, 2 * self._overlap)
        rooms = range(self._tokens - _STEP, least - 1, -_STEP)
        if found := next((room for room in rooms if self._fits(prefix, room)), None):
            return found
        raise Rejected(
            "decode",
            "chunk_prefix_too_long",
            f"what chunks.prefix gives leaves less than {least} of a chunk's {self._tokens} tokens to the text: "
            "have it give less",
        )

    def _fits(self, prefix: str, room: int) -> bool:
        """The library tells no number of tokens, but whether something stays one chunk."""
        if self._filler is None:
            return len(embedded_text(prefix, "").encode()) <= self._tokens - room
        filled = embedded_text(prefix, _repeated(self._filler, room))
        return len(filled) < _PIECE and len(self._whole.chunks(filled)) == 1


def _parts(splitter: TextSplitter, text: str) -> Iterator[tuple[int, str]]:
    """Where each chunk starts, and the chunk; the library trims them."""
    for first, piece in _pieces(text):
        for start, part in splitter.chunk_indices(piece):
            if not is_blank(part):
                yield first + start, part


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    while len(text) - start > _PIECE:
        end = _cut(text, start + _PIECE // 2, start + _PIECE)
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _cut(text: str, first: int, last: int) -> int:
    """The end of a piece: of the best kind of boundary the one whose surroundings have the smallest hash.

    So an edit before it does not move it, nor all that follow.
    """
    for boundary in _BOUNDARIES:
        ends = [found.end() for found in boundary.finditer(text, first, last)]
        if ends:
            return min(ends, key=lambda end: crc32(text[end - _CONTEXT : end + _CONTEXT].encode()))
    return last


def _without_limits(tokenizer: str) -> str:
    """As shipped, many a tokenizer.json cuts texts short: a splitter that counts with it makes chunks of any size."""
    content = json.loads(tokenizer)
    return json.dumps({**content, "truncation": None, "padding": None}, sort_keys=True, ensure_ascii=False)


def _filler(splitter: TextSplitter, tokens: int) -> str | None:
    """A word that is one token, however often it is repeated; None where the tokenizer has none of ours."""
    for word in _FILLERS:
        full, over = _repeated(word, tokens), _repeated(word, tokens + 1)
        if len(splitter.chunks(full)) == 1 and len(splitter.chunks(over)) > 1:
            return word
    return None


def _repeated(word: str, times: int) -> str:
    return " ".join([word] * times)
