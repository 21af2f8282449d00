"""Faults for a running stack, each undone when its turn is over."""

import os
import signal
import subprocess
import sys
import time

from embedstream.flink import Cluster
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

    def __init__(self, stack, service, database, keeper):
        self.stack = stack
        self.service = service
        self.database = database
        self.keeper = keeper
        self.names = [
            *(f"kill {part}" for part in FROZEN_SECONDS),
            *(f"freeze {part}" for part in FROZEN_SECONDS),
            *(f"service {mode}" for mode in ServiceProxy.MODES),
            "cut database", "second job", "rescale 1", "rescale 4",
        ]  # fmt: skip

    def inject(self, name):
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


class Keeper:
    """`embedstream submit --follow` with the proxies' addresses, as it runs in the Docker stack."""

    def __init__(self, stack, environment, log):
        self._stack = stack
        self._environment = {**stack.environment, **environment}
        self._log = log
        self._processes = {}
        self.parallelism = 2

    def start(self, name="embedstream", group="embedstream"):
        ready = self._log.with_name(f"{name}.ready")
        environment = {
            **self._environment, "FLINK_JOB_NAME": name, "KAFKA_GROUP_ID": group,
            "FLINK_PARALLELISM": str(self.parallelism if name == "embedstream" else 1),
        }  # fmt: skip
        command = [sys.executable, "-m", "embedstream", "submit", "--follow", "--ready-file", str(ready)]
        with self._log.open("ab") as log:
            self._processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait(ready.exists, 180, f"job {name} to run")

    def stop(self, name="embedstream"):
        """End the keeper, which stops its job with a savepoint; a JobManager that is coming back is waited for."""
        wait(lambda: self._stack.parts()["jobmanager"]["state"] == "ready", 120, "the JobManager")
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0
        self._cancel_left(name)

    def rescale(self, parallelism):
        if parallelism != self.parallelism:
            self.stop()
            self.parallelism = parallelism
            self.start()

    def start_second(self):
        self.start("second", "second-group")

    def end_second(self):
        running = "second" in self._processes
        if running:
            self.stop("second")
        return running

    def end(self):
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _cancel_left(self, name):
        """A job that waited for an outage took no savepoint in time: it is cancelled, which loses nothing."""
        cluster = Cluster(self._stack.settings)
        if job := cluster.job(name):
            cluster.cancel(job)
            wait(lambda: cluster.job(name) is None, 60, f"job {name} to end")


def environment_number(name, default):
    return int(os.environ.get(name, default))
