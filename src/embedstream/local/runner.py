"""Drives one part: its preparations, its start, its restarts."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.local.job import Job
from embedstream.local.part import log_tail
from embedstream.local.process import Child, Command, explain_exit, kill_group
from embedstream.local.state import PartRecord, PartState, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.local.part import Part

DEATHS = 5
DEATHS_WITHIN = 120.0
LONGEST_DELAY = 30.0
LOOK_SECONDS = 3.0

COULD_NOT_RUN = 2
"""The exit code of our own commands for what another attempt would not change."""


class GiveUp(EmbedstreamError):
    """A part keeps ending; the whole stack stops."""


class Runner:
    """Everything happens in `step`, which does not wait."""

    def __init__(self, part: Part, say: Callable[[str, str], None], changed: Callable[[], None]) -> None:
        self.part = part
        self.state: PartState = "waiting"
        self.was_started = False
        self.was_ready = False
        self._say = say
        self._changed = changed
        self._child: Child | None = None
        self._commands: list[Command] = []
        self._command: Command | None = None
        self._prepares = False
        self._since = now()
        self._reason: str | None = None
        self._lengthy: str | None = None
        self._look_at = 0.0
        self._started = 0.0
        self._busy_until = 0.0
        self._start_at = 0.0
        self._deaths: deque[float] = deque(maxlen=DEATHS + 1)

    @property
    def record(self) -> PartRecord:
        process = self._child.id if self._child else None
        return PartRecord(self.part.name, self.state, self.part.address, self._since, process, self._reason)

    def step(self, *, may_start: bool) -> None:
        """Raises GiveUp, or ConfigError if the part will not start however often it is tried."""
        try:
            if self._child is None:
                self._step_idle(may_start=may_start)
            elif (code := self._child.exit_code()) is not None:
                self._ended(code)
            elif not self._prepares:
                self._look()
        except OSError as exc:
            self._died(f"cannot be started: {exc}")

    def end(self) -> None:
        """Ask the part to end, and kill what does not; returns when nothing of it is left."""
        try:
            if self.state == "ready" and (remark := self.part.before_stop()):
                self._say(self.part.name, remark)
        finally:
            if self._child is not None:
                self._child.end(self.part.stop_signal, self.part.stop_seconds)
                self._child = None
        if self.state != "waiting":
            self._become("stopped")
            self._say(self.part.name, "stopped")

    def kill(self) -> None:
        if self._child is not None:
            kill_group(self._child.id.pid)

    def _step_idle(self, *, may_start: bool) -> None:
        if may_start and time.monotonic() >= self._start_at:
            self._started = self._busy_until = time.monotonic()
            self._commands = list(self.part.preparations())
            self._launch_next()

    def _launch_next(self) -> None:
        self._prepares = bool(self._commands)
        self._command = self._commands.pop(0) if self._commands else self.part.program()
        self._child = Child(self._command, self.part.log)
        self.was_started = self.was_started or not self._prepares
        self._become("starting")
        if self._command.doing != "starting":
            self._say(self.part.name, self._command.doing)

    def _look(self) -> None:
        seconds = time.monotonic() - self._started
        if self.state == "starting" and self.part.is_ready():
            self._ready(seconds)
        elif self._is_time_to_look() and (trouble := self.part.trouble()):
            self._died(trouble)
        elif self.state == "starting" and (lengthy := self.part.lengthy()):
            self._wait_for(lengthy)
        elif self.state == "starting" and time.monotonic() - self._busy_until > self.part.start_seconds:
            self._died(f"not ready after {seconds:.0f} s")

    def _wait_for(self, lengthy: str) -> None:
        self._busy_until = time.monotonic()
        if lengthy != self._lengthy:
            self._lengthy = lengthy
            self._say(self.part.name, lengthy)

    def _is_time_to_look(self) -> bool:
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_SECONDS
        return True

    def _ready(self, seconds: float) -> None:
        self.was_ready = True
        self._reason = None
        self._say(self.part.name, f"ready: {self.part.address} ({seconds:.1f} s)")
        self._become("ready")

    def _ended(self, code: int) -> None:
        if self._prepares and code == 0:
            self._launch_next()
        elif code == COULD_NOT_RUN and not self.was_ready and self._is_ours():
            raise ConfigError(f"{self.part.name} cannot run: {last_line(log_tail(self.part.log))}")
        else:
            self._died(f"ended with {explain_exit(code)}")

    def _is_ours(self) -> bool:
        """Other programs mean other things by the exit code 2."""
        return self._command is not None and self._command.argv[0] == sys.executable

    def _died(self, what: str) -> None:
        self._reason = what
        self._forget_child()
        self._say(self.part.name, f"{what}; the end of {self.part.log}:")
        for line in log_tail(self.part.log).splitlines():
            self._say("", f"| {line}")
        self._deaths.append(time.monotonic())
        if self._is_hopeless():
            raise GiveUp(f"{self.part.name} {what}, and {DEATHS} times before within {DEATHS_WITHIN:.0f} s")
        self._restart_later()

    def _is_hopeless(self) -> bool:
        if self.was_ready and self.part.is_kept_trying:
            return False
        return len(self._deaths) > DEATHS and self._deaths[-1] - self._deaths[0] < DEATHS_WITHIN

    def _restart_later(self) -> None:
        recent = sum(1 for death in self._deaths if time.monotonic() - death < DEATHS_WITHIN)
        delay = min(0.5 * 2 ** (recent - 1), LONGEST_DELAY)
        self._start_at = time.monotonic() + delay
        self._become("restarting")
        self._say(self.part.name, f"starting again in {delay:.1f} s")

    def _forget_child(self) -> None:
        if self._child is not None:
            self._child.end()  # children of a dead process are of no use to the next one
            self._child = None

    def _become(self, state: PartState) -> None:
        self.state = state
        self._since = now()
        self._changed()


class JobRunner(Runner):
    """The part's program ends well when the job runs; then its state is what the JobManager says."""

    def __init__(self, part: Job, say: Callable[[str, str], None], changed: Callable[[], None]) -> None:
        super().__init__(part, say, changed)
        self._job = part

    def _step_idle(self, *, may_start: bool) -> None:
        if self.state in ("ready", "stopped"):
            self._look_after_job()
        else:
            super()._step_idle(may_start=may_start)

    def _ended(self, code: int) -> None:
        if code == 0:
            self._forget_child()
            self._ready(time.monotonic() - self._started)
        else:
            super()._ended(code)

    def _look_after_job(self) -> None:
        if not self._is_time_to_look():
            return
        match self._job.look():
            case "gone":
                self._say(self.part.name, "the JobManager runs it no more; submitting it again")
                self._become("waiting")
            case "behind" if self.state == "ready":
                self._say(self.part.name, "its table went back in time (a restore, a failover); submitting it again")
                self._become("waiting")
            case "stopped" if self.state == "ready":
                self._say(self.part.name, "was stopped or cancelled; left alone until it is submitted again")
                self._become("stopped")
            case "runs" if self.state == "stopped":
                self._ready(0.0)
            case _:
                pass


def last_line(text: str) -> str:
    return text.splitlines()[-1].removeprefix("embedstream: ") if text else "its log is empty"


def make_runner(part: Part, say: Callable[[str, str], None], changed: Callable[[], None]) -> Runner:
    return JobRunner(part, say, changed) if isinstance(part, Job) else Runner(part, say, changed)
