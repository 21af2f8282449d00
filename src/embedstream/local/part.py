"""What the supervisor knows of a part of the stack."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from embedstream.errors import EmbedstreamError
from embedstream.local.process import POLL_SECONDS, Child, Command, explain_exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TAIL_LINES = 15
TAIL_BYTES = 16_384


class PartFailed(EmbedstreamError):
    """A part ended, or was not ready in time; the message holds the end of its log."""


class Part(ABC):
    """A program that runs until it is ended."""

    name: str
    needs: ClassVar[tuple[str, ...]] = ()
    """The parts that must be ready before this one starts."""
    follows: ClassVar[tuple[str, ...]] = ()
    """The parts that must have been started."""
    is_kept_trying: ClassVar[bool] = False
    """Once it was ready, the rest of the stack goes on without it however often it ends."""
    start_seconds: ClassVar[float] = 60.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: float = 15.0

    def __init__(self, log: Path, address: str) -> None:
        self.log = log
        self.address = address

    def preparations(self) -> Sequence[Command]:
        """What must run to its end before the program; nothing where that has been done."""
        return ()

    @abstractmethod
    def program(self) -> Command:
        """Called right before each start, when the preparations are done."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Called again and again while the part starts; must answer within about a second."""

    def lengthy(self) -> str | None:
        """What a part that starts is doing that may take any time, for people; asked after `is_ready`."""
        return None

    def trouble(self) -> str | None:
        """Why it has to be started again although it runs; asked from time to time, answered as fast as `is_ready`."""
        return None

    def before_stop(self) -> str | None:
        """Called while all parts still run; what could not be done is said."""
        return None


def log_tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-TAIL_LINES:])


@contextmanager
def running(part: Part) -> Iterator[None]:
    """One part by itself, ready inside and ended after the block; nobody restarts it.

    Raises PartFailed if it does not become ready.
    """
    part.log.parent.mkdir(parents=True, exist_ok=True)
    for command in part.preparations():
        preparation = Child(command, part.log)
        if code := preparation.wait():
            raise PartFailed(f"{part.name}: {command.doing}: {explain_exit(code)}\n{log_tail(part.log)}")
    child = Child(part.program(), part.log)
    try:
        _wait_until_ready(part, child)
        yield
    finally:
        child.end(part.stop_signal, part.stop_seconds)


def _wait_until_ready(part: Part, child: Child) -> None:
    deadline = time.monotonic() + part.start_seconds
    while not part.is_ready():
        if part.lengthy():
            deadline = time.monotonic() + part.start_seconds
        code = child.exit_code()
        if code is not None:
            raise PartFailed(f"{part.name}: {explain_exit(code)}\n{log_tail(part.log)}")
        if time.monotonic() > deadline:
            raise PartFailed(f"{part.name}: not ready after {part.start_seconds:.0f} s\n{log_tail(part.log)}")
        time.sleep(POLL_SECONDS)
