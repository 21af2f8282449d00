"""Keeps the parts of a stack running until it is told to stop."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from embedstream.local.runner import make_runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from embedstream.local.part import Part
    from embedstream.local.state import PartRecord

STEP_SECONDS = 0.1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """`changed` is called with every part's record whenever one has changed."""

    def __init__(
        self,
        parts: Sequence[Part],
        say: Callable[[str, str], None],
        changed: Callable[[tuple[PartRecord, ...]], None],
    ) -> None:
        self._runners = [make_runner(part, say, self._record) for part in parts]
        self._say = say
        self._on_change = changed
        self._stop_signal: signal.Signals | None = None

    def run(self, when_ready: Callable[[], None], before_stop: Callable[[], None] = lambda: None) -> None:
        """Start all, then look after them until a signal says stop; all that was ready still runs at `before_stop`.

        Raises GiveUp or ConfigError. Nothing runs any more when this returns, however it returns.
        """
        with self._signals_noted():
            try:
                self._supervise(when_ready)
            finally:
                self._stop(before_stop)

    def _supervise(self, when_ready: Callable[[], None]) -> None:
        is_ready = False
        while self._stop_signal is None:
            for runner in self._runners:
                runner.step(may_start=self._may_start(runner.part))
            if not is_ready and all(runner.state == "ready" for runner in self._runners):
                is_ready = True
                when_ready()
            time.sleep(STEP_SECONDS)
        self._say("stack", f"stopping ({self._stop_signal.name})")

    def _may_start(self, part: Part) -> bool:
        others = {runner.part.name: runner for runner in self._runners}
        needed = all(others[name].state == "ready" for name in part.needs if name in others)
        return needed and all(others[name].was_started for name in part.follows if name in others)

    def _stop(self, before_stop: Callable[[], None]) -> None:
        with ExitStack() as ends:  # the last one first, and every one even if another fails
            for runner in self._runners:
                ends.callback(runner.end)
            ends.callback(before_stop)

    def _record(self) -> None:
        self._on_change(tuple(runner.record for runner in self._runners))

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        # nohup ignores SIGHUP, and means it; a script's `&` ignores SIGINT, and means the keyboard's alone.
        hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        numbers = [number for number in STOP_SIGNALS if number != signal.SIGHUP or hangs_up]
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._stop_signal is None:
            self._stop_signal = signal.Signals(number)
        else:  # whoever asks twice does not want to wait
            for runner in self._runners:
                runner.kill()
