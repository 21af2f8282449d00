"""New lines of the log files in a directory, as Flink's processes write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PROCESSES = {"standalonesession": "jobmanager", "taskexecutor": "taskmanager"}


class LogTail:
    """Tells what is added to `*.log` after its construction; follows files that are new, rolled over or cut."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say
        self._places = {path: _identity(path) for path in self._files()}

    def __call__(self) -> None:
        for path in self._files():
            inode, size = _identity(path)
            known, offset = self._places.get(path, (inode, 0))
            if known != inode or size < offset:
                offset = 0
            self._places[path] = (inode, self._read(path, offset))

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.log"))

    def _read(self, path: Path, offset: int) -> int:
        """Tell the whole lines from `offset` on, and return where they end."""
        try:
            with path.open("rb") as file:
                file.seek(offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:  # rolled over this moment
            return 0
        for line in whole.decode(errors="replace").splitlines():
            self._say(f"{_label(path)} | {line}")
        return offset + len(whole) + len(newline)


def _identity(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return 0, 0
    return facts.st_ino, facts.st_size


def _label(path: Path) -> str:
    """`flink-<user>-<process>-<number>-<host>.log` as process and host (see flink-console.sh)."""
    found = re.fullmatch(r"flink-[^-]*-(\w+)-\d+-(.+)", path.stem)
    return f"{_PROCESSES.get(found[1], found[1])} {found[2]}" if found else path.stem
