"""Keeps the job submitted until it is told to stop: what the container `flink-submit` does."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from embedstream import flink
from embedstream.errors import EmbedstreamError
from embedstream.index import tend
from embedstream.submit import forgotten, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from embedstream.settings import Settings

POLL_SECONDS = 2.0
REPEAT_SECONDS = 60.0
RUNNING_SECONDS = 30.0
SAVEPOINT_SECONDS = 60.0


class Keeper:
    """Submits the job, looks after it, and submits it again when it is gone.

    Trouble is told when it begins, when it changes and once a minute, and tried again for as long as it lasts.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._cluster = flink.Cluster(settings)
        self._submitted = False
        self._told: tuple[str, float] = ("", 0.0)

    def look(self) -> bool:
        """Whether every task of the job runs."""
        try:
            runs = self._keep()
        except EmbedstreamError as exc:
            runs = False
            self._tell(f"waiting: {exc}")
        if runs:
            self._told = ("", 0.0)
        return runs

    def stop(self) -> None:
        """Stop the job with a savepoint; says so where it does not stop."""
        name = self._settings.flink_job_name
        try:
            job = self._cluster.job(name)
            if job:
                self._say(f"stopping job {name} with a savepoint")
                self._say(f"stopped job {name} with savepoint {self._cluster.stop(job, SAVEPOINT_SECONDS)}")
        except EmbedstreamError as exc:
            self._say(f"{exc}; nothing is lost: what it had not committed is read again at the next start")

    def _keep(self) -> bool:
        """Whether every task of the job runs, after it was submitted where that was due."""
        name = self._settings.flink_job_name
        if self._submitted:
            if job := self._cluster.job(name):
                if not (lines := forgotten(self._settings)):
                    return self._cluster.runs(job)
                self._say("; ".join(lines))
                submit(self._settings, self._say, replace=True, timeout=RUNNING_SECONDS)
                return True
            if self._cluster.finding(name) == "stopped":
                self._tell(f"job {name} was stopped by somebody: restart this process, or run `embedstream submit`")
                return False
            self._say(f"job {name} {self._cluster.why_ended(name)}: submitting it again")
        submit(self._settings, self._say, timeout=RUNNING_SECONDS)
        self._submitted = True
        return True

    def _tell(self, line: str) -> None:
        text, since = self._told
        if line != text or time.monotonic() - since >= REPEAT_SECONDS:
            self._say(line)
            self._told = (line, time.monotonic())


class Keepers:
    """Keeps the jobs of all pipelines; `ready` exists while every task of all of them runs."""

    def __init__(self, pipelines: Sequence[Settings], say: Callable[[str], None], ready: Path | None = None) -> None:
        self._keepers = [Keeper(settings, say) for settings in pipelines]
        self._ready = ready

    def look(self) -> None:
        running = [keeper.look() for keeper in self._keepers]
        self._show(all(running))

    def stop(self) -> None:
        self._show(False)
        for keeper in self._keepers:
            keeper.stop()

    def _show(self, runs: bool) -> None:
        if self._ready and runs:
            self._ready.touch()
        elif self._ready:
            self._ready.unlink(missing_ok=True)


def follow(
    pipelines: Sequence[Settings],
    say: Callable[[str], None],
    ready: Path | None = None,
    logs: Callable[[], None] = lambda: None,
) -> None:
    """Keep the jobs submitted, and their indexes tended, until SIGTERM or SIGINT, and stop them then.

    `ready` is as Keepers has it; `logs` is called now and then meanwhile.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    keepers = Keepers(pipelines, say, ready)
    threading.Thread(target=_repeat, args=(logs, stopping), name="logs", daemon=True).start()
    with ExitStack() as tending:
        for settings in pipelines:
            tending.enter_context(tend.in_background(settings, say, stopping))
        while not stopping.is_set():
            keepers.look()
            stopping.wait(POLL_SECONDS)
        keepers.stop()
    logs()


def _repeat(call: Callable[[], None], stopping: threading.Event) -> None:
    while not stopping.wait(POLL_SECONDS):
        call()
