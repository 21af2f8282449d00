"""Faults for a running stack, each undone when its turn is over."""

import os
import time

from support.proxies import ServiceProxy
from support.stack import suspended, wait

FROZEN_SECONDS = {
    # Longer than what each is waited for: heartbeats of 10 s, the client's time-out of 3 s, Kafka's sessions.
    "worker": 12, "taskmanager": 13, "jobmanager": 13, "service": 6, "postgres": 8, "kafka": 13,
}  # fmt: skip
BROKEN_SECONDS = 4
CUTS = 12


class Faults:
    """Injects faults by name; `names` are all that there are."""

    def __init__(self, stack, service, database, keeper, upheavals):
        self.stack = stack
        self.service = service
        self.database = database
        self.keeper = keeper
        self.upheavals = upheavals
        self.names = [
            *(f"kill {part}" for part in FROZEN_SECONDS),
            *(f"freeze {part}" for part in FROZEN_SECONDS),
            *(f"service {mode}" for mode in ServiceProxy.MODES),
            "cut database", "second job", "rescale 1", "rescale 4", *upheavals.names,
        ]  # fmt: skip

    def inject(self, name):
        if name in self.upheavals.names:
            self.upheavals.cause(name)
            return
        kind, _, what = name.partition(" ")
        {
            "kill": self._kill, "freeze": self._freeze, "service": self._break_service, "cut": self._cut_database,
            "second": self._second_job, "rescale": self._rescale,
        }[kind](what)  # fmt: skip

    def settle(self):
        """Back to one job with the parallelism that it began with."""
        self.keeper.end_second()
        self.keeper.rescale(2)

    def _processes(self, part):
        """The processes of a part, as long as there are any; those of a part that is coming back are waited for."""
        if part == "worker":
            wait(self.stack.python_workers, 90, "a Python worker")
            return self.stack.python_workers()[:1]
        wait(lambda: self.stack.parts()[part]["pid"], 90, part)
        found = self.stack.processes_of(part)
        return found[:1] if part == "taskmanager" else found

    def _kill(self, part):
        for process in self._processes(part)[:1]:
            process.kill()

    def _freeze(self, part):
        with suspended(self._processes(part)):
            time.sleep(FROZEN_SECONDS[part])

    def _break_service(self, mode):
        with self.service.breaking(mode):
            time.sleep(BROKEN_SECONDS)

    def _cut_database(self, _):
        for _ in range(CUTS):
            self.database.cut()
            time.sleep(0.3)

    def _second_job(self, _):
        """Another job on the same topic and table, from the first message on; ended by the next call."""
        if not self.keeper.end_second():
            self.keeper.start_second()
            time.sleep(BROKEN_SECONDS)

    def _rescale(self, parallelism):
        now = int(parallelism)
        self.keeper.rescale(now if now != self.keeper.parallelism else 2)


def environment_number(name, default):
    return int(os.environ.get(name, default))
