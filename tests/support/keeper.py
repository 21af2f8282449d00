"""The process that keeps the job submitted, under test."""

import signal
import subprocess
import sys
from contextlib import contextmanager

from embedstream import kafka
from embedstream.flink import Cluster
from support.stack import wait


class Keeper:
    """`embedstream submit --follow` with the proxies' addresses, as it runs in the Docker stack."""

    def __init__(self, stack, environment, log):
        self._stack = stack
        self.proxies = environment
        self._environment = {**stack.environment, **environment}
        self._log = log
        self._processes = {}
        self.parallelism = 2

    def start(self, name="embedstream", group="embedstream"):
        ready = self._log.with_name(f"{name}.ready")
        command = [sys.executable, "-m", "embedstream", "submit", "--follow", "--ready-file", str(ready)]
        with self._log.open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, env=self._environment_of(name, group), stdout=log, stderr=log
            )
        wait(ready.exists, 180, f"job {name} to run")

    def submit(self, *options):
        """What somebody types beside it, with its settings."""
        command = [sys.executable, "-m", "embedstream", "submit", *options]
        environment = self._environment_of("embedstream", "embedstream")
        done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=300)
        with self._log.open("a") as log:
            log.write(f"{' '.join(options)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def _environment_of(self, name, group):
        return {
            **self._environment, "FLINK_JOB_NAME": name, "KAFKA_GROUP_ID": group,
            "FLINK_PARALLELISM": str(self.parallelism if name == "embedstream" else 1),
        }  # fmt: skip

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


@contextmanager
def kept_job(stack, service, database, directory, partitions):
    """Keeps the stack's job, whose ways to the service and to the database lead over these proxies."""
    stack.environment["FLINK_PARALLELISM"] = str(partitions)
    kafka.ensure_topics(stack.settings.model_copy(update={"flink_parallelism": partitions}))
    proxies = {"EMBEDDING_SERVICE_URL": service.url, "PGVECTOR_PORT": str(database.port)}
    keeper = Keeper(stack, proxies, directory / "keeper.log")
    try:
        keeper.start()
        yield keeper
    finally:
        keeper.end()
