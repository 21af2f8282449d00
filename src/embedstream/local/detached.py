"""A stack in the background: its supervisor in a session of its own, followed until it is ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Protocol

from embedstream.errors import EmbedstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

    from embedstream.local.process import ProcessId
    from embedstream.local.state import StackState

FOLLOW_SECONDS = 0.1
DOWN_SECONDS = 120.0


class Watched(Protocol):
    """What must be known of a stack to follow it."""

    @property
    def log(self) -> Path: ...

    def state(self) -> StackState: ...


def start(stack: Watched, arguments: Sequence[str], echo: Callable[[str], None]) -> int:
    """Run `embedstream local up` with these arguments in the background.

    Return 0 when the stack is ready, or the exit code with which it ended.
    """
    with stack.log.open("a") as output, stack.log.open(encoding="utf-8") as log:
        log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [sys.executable, "-m", "embedstream.local", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return _follow(process, stack, log, echo)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise


def _follow(process: subprocess.Popen[bytes], stack: Watched, log: TextIO, echo: Callable[[str], None]) -> int:
    while True:
        code = process.poll()
        state = stack.state()
        for line in log:
            echo(line.rstrip("\n"))
        if code is not None:
            return code or 1  # told to stop before it was ready
        if state.is_ready and state.supervisor and state.supervisor.pid == process.pid:
            return 0
        time.sleep(FOLLOW_SECONDS)


def wait_until_ready(stack: Watched) -> None:
    """For a stack that somebody else starts; raises EmbedstreamError if it ends, or a part has been stopped."""
    while not (state := stack.state()).is_ready:
        if not state.is_running:
            raise EmbedstreamError(f"the stack has ended; see {stack.log}")
        if stopped := [part.name for part in state.parts if part.state == "stopped"]:
            raise EmbedstreamError(f"the stack runs, but {', '.join(stopped)} was stopped; see {stack.log}")
        time.sleep(FOLLOW_SECONDS)


def stop(supervisor: ProcessId) -> None:
    """Ask it to end everything; after a long wait kill it, which leaves its parts to the caller."""
    os.kill(supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while supervisor.is_alive():
        if time.monotonic() > deadline:
            os.kill(supervisor.pid, signal.SIGKILL)
        time.sleep(FOLLOW_SECONDS)
