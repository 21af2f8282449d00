"""Processes that are started and ended with everything that they start themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

POLL_SECONDS = 0.05
KILL_SECONDS = 10.0
ORPHAN_SECONDS = 2.0
"""What the members of a group get to end by themselves once its leader has."""

# The system clock may be set between two looks at one process.
CREATED_TOLERANCE = 2.0


@dataclass(frozen=True)
class Command:
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    user: str | None = None
    """The system user to become (only root can)."""
    doing: str = "starting"
    """What a person reads while it runs."""


@dataclass(frozen=True)
class ProcessId:
    """A process, not to be confused with a later one of the same number."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        return cls(pid, psutil.Process(pid).create_time())

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return self._is(process) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def group_is_left(self) -> bool:
        """Whether members of the group that it led still run, be it gone itself or not."""
        try:
            is_ours = self._is(psutil.Process(self.pid))
        except psutil.NoSuchProcess:
            is_ours = True  # no process gets the number of a group that still has members
        return is_ours and any(group_members(self.pid))

    def _is(self, process: psutil.Process) -> bool:
        return abs(process.create_time() - self.created) <= CREATED_TOLERANCE


class Child:
    """A process in a session of its own; what it writes is appended to `log`."""

    def __init__(self, command: Command, log: Path) -> None:
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command.argv,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=command.user,
                group=command.user,
                extra_groups=[] if command.user else None,
            )
        self.id = ProcessId.of(self._popen.pid)

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._popen.poll()

    def wait(self) -> int:
        return self._popen.wait()

    def end(self, ask: signal.Signals = signal.SIGTERM, seconds: float = 0.0) -> None:
        end_group(self.id.pid, ask, seconds)
        self._popen.wait()


def kill_group(group: int) -> None:
    """Does not wait."""
    _signal_group(group, signal.SIGKILL)


def end_group(group: int, ask: signal.Signals = signal.SIGTERM, seconds: float = 0.0) -> None:
    """Return when no process of the group is left; after `seconds` of asking they are killed."""
    if seconds > 0:
        _signal_group(group, ask)
        _signal_group(group, signal.SIGCONT)  # one that was stopped (Ctrl-Z, a debugger) would not hear it
        if _wait_for_end(group, seconds):
            return
    kill_group(group)
    _wait_for_end(group, KILL_SECONDS)


def group_members(group: int) -> Iterator[psutil.Process]:
    """The living processes of a group; one that has ended and waits for its parent is not counted."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _wait_for_end(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    has_leader = True
    while members := [process.pid for process in group_members(group)]:
        if has_leader and group not in members:
            has_leader = False
            deadline = min(deadline, time.monotonic() + ORPHAN_SECONDS)
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def explain_exit(code: int) -> str:
    """`exit code 1` or `SIGKILL`."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
