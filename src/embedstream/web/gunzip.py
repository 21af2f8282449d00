"""Bodies that come compressed."""

from __future__ import annotations

import zlib

ENCODINGS = frozenset({"gzip", "x-gzip"})

_GZIP = 16 + zlib.MAX_WBITS


class Gunzip:
    """Decodes gzip (RFC 1952), of one member or several, as its pieces come."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    @property
    def complete(self) -> bool:
        """Whether what came so far ends where a member does."""
        return self._member.eof

    def decode(self, piece: bytes, most: int) -> bytes:
        """The bytes in a piece, but no more than `most` of them: more is then never asked for.

        Raises ValueError where it is no gzip.
        """
        decoded = bytearray()
        try:
            while piece and len(decoded) < most:
                if self._member.eof:
                    self._member = zlib.decompressobj(_GZIP)
                decoded += self._member.decompress(piece, most - len(decoded))
                piece = self._member.unused_data
        except zlib.error as exc:
            raise ValueError(str(exc)) from exc
        return bytes(decoded)
