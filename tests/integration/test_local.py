"""The embedded stack through its commands, with PostgreSQL and Kafka as the real parts."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from embedstream.local.ports import LOOPBACK, free_port

LOCAL = [sys.executable, "-m", "embedstream.local"]


class LocalStack:
    def __init__(self, directory):
        self.directory = directory

    def run(self, command, *options, expect=0):
        done = subprocess.run(
            [*LOCAL, command, "--dir", self.directory, *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, *options, only="postgres", expect=0):
        return self.run("up", "--only", only, "--detach", *options, expect=expect)

    def status(self, expect=0):
        return json.loads(self.run("status", "--json", expect=expect))

    def pid(self, part):
        return next(found["pid"] for found in self.status()["parts"] if found["name"] == part)

    def address(self, part="postgres"):
        return next(found["address"] for found in self.status()["parts"] if found["name"] == part)

    def env(self):
        words = shlex.split(self.run("env").replace("export ", ""))
        return dict(word.split("=", 1) for word in words)

    def query(self, statement):
        with psycopg.connect(
            host=LOOPBACK, port=int(self.address().split(":")[1]), user="postgres", dbname="embeddings_db"
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def log(self):
        return (self.directory / "logs" / "stack.log").read_text()

    def processes(self):
        """Whatever runs with the directory on its command line, but for what watches from outside."""
        found = psutil.process_iter(["cmdline", "status"])
        return [
            process
            for process in found
            if str(self.directory) in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid()
        ]


@pytest.fixture
def stack(tmp_path):
    stack = LocalStack(tmp_path / "stack")
    yield stack
    stack.run("down")
    assert stack.processes() == []


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def has_ended(process):
    """Also if the parent that it was left to has not asked for its exit code yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def kill(pid, number=signal.SIGKILL):
    process = psutil.Process(pid)
    process.send_signal(number)
    psutil.wait_procs([process], timeout=10)


def test_up_leads_to_the_parts_and_data_survives_down(stack):
    assert "stack       ready" in stack.up(only="postgres,kafka") + stack.log()
    env = stack.env()
    admin = AdminClient({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"]})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
    stack.query("CREATE TABLE kept AS SELECT 'row' AS value")
    assert env["PGVECTOR_PORT"] == stack.address().split(":")[1]

    assert "stopped the stack" in stack.run("down")
    assert stack.processes() == []
    assert stack.status(expect=1)["running"] is False
    assert "no stack runs" in stack.run("env", expect=2)

    stack.up(only="postgres,kafka")
    assert stack.env() == env
    assert "kept" in AdminClient({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"]}).list_topics(timeout=5).topics
    assert stack.query("SELECT value FROM kept") == [("row",)]

    stack.run("down", "--delete")
    assert not stack.directory.exists()


def test_a_killed_part_comes_back_where_it_was_with_its_data(stack):
    stack.up()
    stack.query("CREATE TABLE kept AS SELECT 'row' AS value")
    address, pid = stack.address(), stack.pid("postgres")
    kill(pid)
    wait_until(lambda: stack.log().count("ready: ") == 2)
    assert "ended with SIGKILL" in stack.log()
    assert stack.address() == address
    assert stack.pid("postgres") != pid
    assert stack.query("SELECT value FROM kept") == [("row",)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all(stack, number):
    with subprocess.Popen(
        [*LOCAL, "up", "--dir", stack.directory, "--only", "postgres"], stdout=subprocess.PIPE, text=True
    ) as process:
        lines = iter(process.stdout.readline, "")
        assert any("stack       ready" in line for line in lines)
        postgres = psutil.Process(stack.pid("postgres"))
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert f"stopping ({number.name})" in rest
    assert rest.rstrip().endswith("postgres    stopped")
    assert has_ended(postgres)
    assert stack.processes() == []


def test_what_a_killed_supervisor_leaves_is_ended_by_the_next_up(stack):
    stack.up()
    left = psutil.Process(stack.pid("postgres"))
    kill(stack.status()["pid"])
    assert left.is_running()
    assert stack.status(expect=1)["running"] is False
    assert "ended what a killed one had left: postgres" in stack.up()
    assert has_ended(left)
    assert stack.query("SELECT 1") == [(1,)]


def test_what_a_killed_supervisor_leaves_is_ended_by_down(stack):
    stack.up()
    left = psutil.Process(stack.pid("postgres"))
    kill(stack.status()["pid"])
    assert "ended what a killed stack had left" in stack.run("down")
    assert has_ended(left)
    assert "no stack runs" in stack.run("down")


def test_two_stacks_run_side_by_side(stack, tmp_path):
    other = LocalStack(tmp_path / "other")
    stack.up()
    other.up()
    try:
        assert stack.address() != other.address()
        stack.query("CREATE TABLE mine ()")
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.query("SELECT FROM mine")
    finally:
        other.run("down")
    assert stack.query("SELECT 1") == [(1,)]


def test_a_second_up_leaves_the_first_alone(stack):
    stack.up()
    pid = stack.status()["pid"]
    assert f"already running (pid {pid})" in stack.up()
    assert f"already running (pid {pid})" in stack.run("up", expect=2)
    assert stack.status()["pid"] == pid


def test_a_fixed_port_is_used_or_refused(stack, tmp_path):
    port = free_port()
    stack.up(f"--postgres-port={port}")
    assert stack.address() == f"{LOOPBACK}:{port}"
    refused = LocalStack(tmp_path / "refused").up(f"--postgres-port={port}", expect=2)
    assert refused == f"embedstream: port {port} for postgres is in use on {LOOPBACK}\n"


def test_data_of_another_version_is_refused_at_once(stack):
    data = stack.directory / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    assert "embedstream: PostgreSQL cannot run here: Version mismatch" in stack.up(expect=2)
