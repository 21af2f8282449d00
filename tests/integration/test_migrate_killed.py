"""A migration that is killed at every statement and goes on, and one under the traffic of several writers."""

import os
import random
import subprocess
import sys
import threading
import time

import psycopg
import pytest

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.index.build import build
from embedstream.migrate.begin import begin
from embedstream.migrate.state import read
from embedstream.migrate.swap import finish, switch
from support.migration import DocumentWorker, Worker, assert_holds, fill, two_services

# A request that is under way when its client is closed leaves its socket to the garbage collector.
pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
TABLE = "text_message_embeddings"
OWN, OTHER = 0, 1


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    directory = tmp_path_factory.mktemp("services")
    with two_services(directory) as urls:
        yield urls


@pytest.fixture(params=[Worker, DocumentWorker])
def worker(database, services, request):
    worker = request.param(database.model_copy(update={"embedding_service_url": services[0]}))
    yield worker
    worker.close()


class Crash(Exception):
    pass


class Crashes:
    """Ends whoever works in this thread before its n-th statement."""

    def __init__(self, monkeypatch):
        self.left = None
        execute, thread = psycopg.Cursor.execute, threading.current_thread()

        def crashing(cursor, *arguments, **options):
            if self.left is not None and threading.current_thread() is thread:
                self.left -= 1
                if self.left < 0:
                    raise Crash
            return execute(cursor, *arguments, **options)

        monkeypatch.setattr(psycopg.Cursor, "execute", crashing)

    def at(self, number, act):
        """Whether it came through."""
        self.left = number
        try:
            act()
        except Crash:
            return False
        finally:
            self.left = None
        return True


STEPS = [
    ("begin", lambda settings, urls: begin(settings, urls[OTHER], 1.0), OWN),
    ("fill", lambda settings, _: fill(settings), OWN),
    ("cut over", lambda settings, _: switch(settings, "cut-over"), OTHER),
    ("fill the other", lambda settings, _: fill(settings), OTHER),
    ("roll back", lambda settings, _: switch(settings, "roll-back"), OWN),
    ("cut over again", lambda settings, _: switch(settings, "cut-over"), OTHER),
    ("finish", lambda settings, _: finish(settings, "finish"), OTHER),
    ("begin again", lambda settings, urls: begin(settings, urls[OWN], 1.0), OTHER),
    ("fill again", lambda settings, _: fill(settings), OTHER),
    ("abort", lambda settings, _: finish(settings, "abort"), OTHER),
]


def test_killed_at_every_statement_it_goes_on(worker, services, monkeypatch):
    """After each death the table is whole, in one space, and takes what is written.

    What is done in many small transactions is killed before each third statement only, and what is as of whole texts
    before each second one of a table of chunks.
    """
    settings, crashes, deaths = worker.settings, Crashes(monkeypatch), 0
    each = 2 if isinstance(worker, DocumentWorker) else 1
    worker.traffic(300, 120)
    build(settings)
    now = OWN
    for name, act, then in STEPS:
        number = 0
        while not crashes.at(number, lambda act=act: act(settings, services)):
            number += 3 if name.startswith("fill") else each
            deaths += 1
            worker.traffic(3, 120)
            if deaths % 7 == 0:
                assert_holds(settings, TABLE, worker.live, services[now])
        now = then
        assert_holds(settings, TABLE, worker.live, services[now]), name
    assert deaths > 80 / each
    with store.connect(settings) as connection:
        assert read(connection, settings) is None


@pytest.mark.parametrize("worker", [Worker], indirect=True)
def test_processes_that_are_killed(worker, services):
    """The commands themselves, by SIGKILL, at any moment."""
    settings, rng = worker.settings, random.Random(3)
    worker.traffic(2000, 1500)
    steps = ["start", "cut-over", "roll-back", "cut-over", "finish"]
    for step in steps:
        delay = 0.5
        while command(settings, services, step, delay):
            worker.traffic(20, 1500)
            delay = min(20, delay * rng.uniform(1.2, 1.8))
    worker.traffic(100, 1500)
    assert_holds(settings, TABLE, worker.live, services[OTHER])


TAKEN_EFFECT = {
    "cut-over": "it has been cut over", "roll-back": "it has not been cut over", "finish": "is not being migrated"
}  # fmt: skip


def command(settings, services, step, delay):
    """Whether it was killed, after so many seconds; what had taken effect by then is refused the next time."""
    options = ["--service", services[OTHER], "--share", "1"] if step == "start" else []
    environment = {n: v for n, v in settings.to_env().items() if n.startswith(("PGVECTOR_", "EMBEDDING_SERVICE_URL"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "embedstream", "migrate", step, *options], text=True, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, env={**os.environ, **environment, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    has_effect = step in TAKEN_EFFECT and TAKEN_EFFECT[step] in said
    assert process.returncode == 0 or has_effect, said
    return False


def test_several_writers_all_the_way(worker, services):
    """Each id belongs to one writer, so that each knows what must stand there."""
    settings, stop, failures = worker.settings, threading.Event(), []
    writers = [type(worker)(settings, seed, f"w{seed}") for seed in (1, 2)]
    for writer in writers:
        writer.offset = 1_000_000 * writer.random.randrange(1, 99)
        writer.traffic(600, 400)

    def write(writer):
        try:
            while not stop.is_set():
                writer.traffic(writer.random.randrange(1, 60), 400)
        except Exception as exc:  # noqa: BLE001 - raised below
            failures.append(exc)

    threads = [threading.Thread(target=write, args=[each]) for each in writers]
    for thread in threads:
        thread.start()
    try:
        begin(settings, services[OTHER], 1.0)
        for step in ("cut-over", "roll-back", "cut-over"):
            fill(settings)
            time.sleep(0.5)
            switched(settings, step)
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.close()
    assert failures == []
    expected = {id: row for writer in writers for id, row in writer.live.items()}
    assert_holds(settings, TABLE, expected, services[OTHER])
    fill(settings)
    assert_holds(settings, f"{TABLE}_previous", expected, services[OWN])


def switched(settings, step):
    """Once what the writers left is no more than they may wait for."""
    while True:
        try:
            return switch(settings, step)
        except ConfigError as exc:
            if "resume goes on" not in str(exc):
                raise
            fill(settings)
