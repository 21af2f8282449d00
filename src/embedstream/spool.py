"""Records that wait to be sent: in memory, and on disk where they are many."""

from __future__ import annotations

import struct
import weakref
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_MEMORY = 16 * 1024 * 1024
# The number, then the lengths of id, key and value; -1 for None.
_HEAD = struct.Struct("=Qiii")


class Entry(NamedTuple):
    """A record to send, the number of its line, and its id; None where that is its place in the topic."""

    number: int
    id: str | None
    key: bytes | None
    value: bytes | None


class Spool:
    """Entries in the order in which they were added; can be read as often as one likes, by one reader at a time."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed with the object
        weakref.finalize(self, self._file.close)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Entry) -> None:
        """Raises ConfigError where there is no room."""
        parts = (None if entry.id is None else entry.id.encode(), entry.key, entry.value)
        head = _HEAD.pack(entry.number, *(-1 if part is None else len(part) for part in parts))
        try:
            self._file.write(b"".join([head, *(part or b"" for part in parts)]))
        except OSError as exc:
            raise ConfigError(f"no room to keep the lines until all are checked ({exc.strerror}): set TMPDIR") from exc
        self._count += 1

    def __iter__(self) -> Iterator[Entry]:
        self._file.seek(0)
        while head := self._file.read(_HEAD.size):
            number, *lengths = _HEAD.unpack(head)
            id, key, value = (None if length < 0 else self._file.read(length) for length in lengths)
            yield Entry(number, None if id is None else id.decode(), key, value)
