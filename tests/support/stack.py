"""An embedded stack under test, driven by its own commands."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress

import httpx
import psutil

from embedstream import flink, kafka, store
from embedstream.settings import Settings, load_settings
from embedstream.status.parts import read_queue


class RunningStack:
    def __init__(self, directory, environment):
        self.directory = directory
        # Whatever stands in the environment of a part must not come out in its log.
        self.secret = uuid.uuid4().hex
        self.environment = {**environment, "CLOUD_SECRET_KEY": self.secret}
        # Whoever holds it is the only one that sends.
        self.gate = threading.RLock()

    def command(self, *arguments, check=True, timeout=60, **options):
        """Run `embedstream ...` with the settings that `local env` gives once the stack runs."""
        done = subprocess.run(
            [sys.executable, "-m", "embedstream", *arguments], env=self.environment, text=True, capture_output=True,
            check=False, timeout=timeout, **options,
        )  # fmt: skip
        assert not check or done.returncode == 0, (
            f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done

    def enter(self):
        """Take over the settings that lead to the stack."""
        for line in self.command("local", "env", "--dir", str(self.directory)).stdout.splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = value.strip("'")
        self.settings = load_settings(
            **{name.lower(): value for name, value in self.environment.items() if name.startswith(PREFIXES)}
        )

    def parts(self):
        done = self.command("local", "status", "--json", "--dir", str(self.directory), check=False)
        return {part["name"]: part for part in json.loads(done.stdout)["parts"]}

    def status(self):
        """What `embedstream status` says."""
        return json.loads(self.command("status", "--json").stdout)

    def job(self):
        return flink.Cluster(self.settings).job(self.settings.flink_job_name)

    def restarts(self):
        """The job, and the exceptions for which Flink restarted it."""
        job = self.job()
        facts = httpx.get(f"{self.settings.flink_rest_url}/jobs/{job.id}/exceptions").json()
        return job, facts["exceptionHistory"]["entries"]

    def kill(self, part):
        """kill -9 of a part's process; returns its pid."""
        pid = self.parts()[part]["pid"]
        psutil.Process(pid).kill()
        return pid

    def processes_of(self, part):
        main = psutil.Process(self.parts()[part]["pid"])
        return [main, *main.children(recursive=True)]

    def processes(self):
        """The command lines of what still runs with the stack's environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("CLOUD_SECRET_KEY") == self.secret:
                    found.append(process.cmdline())
        return found

    def log_files_with(self, text):
        return [path for path in self.directory.rglob("*.log*") if text.encode() in path.read_bytes()]

    def python_workers(self):
        """The Python processes that run the job's function."""
        task_manager = psutil.Process(self.parts()["taskmanager"]["pid"])
        children = task_manager.children(recursive=True)
        return [child for child in children if "python" in child.name() and "beam_boot" in " ".join(child.cmdline())]

    def wait_until_done(self, timeout=120):
        """Wait until the committed offsets are at the end of the topic: all is in the table, or a dead letter."""
        wait(lambda: kafka.look(self.settings).unread == 0, timeout, "the lag to be gone")
        standing = read_queue(self.settings).standing
        assert standing.log.unread == 0, f"the group is at the end, the table is not: {standing}"

    def query(self, sql, *parameters):
        with store.connect(self.settings) as connection:
            return connection.execute(sql, parameters).fetchall()

    def execute(self, sql, parameters=()):
        with store.connect(self.settings) as connection:
            connection.execute(sql, parameters)

    def produce(self, records, partitions=2, **options):
        """Record after record to the next partition, so that versions of an id meet in several slots.

        One that names its partition goes there.
        """
        spread = (
            record if record.partition is not None else record._replace(partition=n % partitions)
            for n, record in enumerate(records)
        )  # fmt: skip
        with self.gate:
            kafka.produce(self.settings, self.settings.kafka_input_topic, spread, **options)

    def place_of(self, message):
        """Send one message; its partition and offset."""
        places = []
        record = kafka.Outgoing(json.dumps(message).encode(), message["id"].encode())
        self.produce([record], on_delivered=lambda _, partition, offset: places.append((partition, offset)))
        return places[0]


@contextmanager
def running_stack(directory, settings, *options):
    """The embedded stack as `embedstream local up` starts it with these settings, and with none of the user's own."""
    names = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    stack = RunningStack(directory, {**environment, **settings})
    try:
        stack.command("local", "up", "--detach", "--dir", str(directory), *options, timeout=240)
        stack.enter()
        yield stack
    finally:
        stack.command("local", "down", "--dir", str(directory), timeout=120)
    assert stack.processes() == []


@contextmanager
def suspended(processes):
    """SIGSTOP while the block runs; one that ends meanwhile is left alone."""
    for process in processes:
        with suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.Error):
                process.resume()


@contextmanager
def producing(stack, batches, pause, partitions=2):
    """Messages in the background while the block runs, a batch every `pause` seconds; all are sent when it ends."""
    failures = []

    def send():
        try:
            for batch in batches:
                stack.produce(batch, partitions)
                time.sleep(pause)
        except Exception as exc:  # noqa: BLE001 - raised below
            failures.append(exc)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


PREFIXES = ("KAFKA_", "PGVECTOR_", "EMBEDDING_", "FLINK_REST_URL", "FLINK_CHECKPOINT", "HEALTH_")


def wait(condition, timeout, what):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.2)
