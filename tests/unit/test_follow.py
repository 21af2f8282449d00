import signal
from contextlib import nullcontext

import pytest

from embedstream import follow
from embedstream.errors import ConfigError
from embedstream.flink import Job, NotStopped
from embedstream.follow import Keepers
from embedstream.logtail import LogTail
from embedstream.settings import load_settings


class World:
    """A cluster whose job has a state that the test sets; None for no job."""

    def __init__(self):
        self.state = None
        self.every_task_runs = True
        self.submissions = 0
        self.trouble = None
        self.stops = []

    def submit(self, settings, say, timeout):
        if self.trouble:
            raise self.trouble
        self.submissions += 1
        self.state = "RUNNING"

    def finding(self, name):
        return {None: "gone", "FAILED": "gone", "CANCELED": "stopped"}.get(self.state, "runs")

    def job(self, name):
        return Job("1", name, self.state, 0) if self.state == "RUNNING" else None

    def runs(self, job):
        return self.every_task_runs

    def why_ended(self, name):
        return "is not known to the cluster"

    def stop(self, job, timeout):
        if self.trouble:
            raise self.trouble
        self.stops.append(job)
        self.state = "FINISHED"
        return "file:/savepoint"


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(follow, "submit", world.submit)
    monkeypatch.setattr(follow.flink, "Cluster", lambda settings: world)
    return world


@pytest.fixture
def lines():
    return []


@pytest.fixture
def keeper(world, lines, tmp_path):
    return Keepers([load_settings()], lines.append, tmp_path / "ready")


def test_the_ready_file_exists_while_every_task_runs(keeper, world, tmp_path):
    keeper.look()
    assert (tmp_path / "ready").exists()
    world.every_task_runs = False
    keeper.look()
    assert not (tmp_path / "ready").exists()
    assert world.submissions == 1


@pytest.mark.parametrize("state", [None, "FAILED"])
def test_a_job_that_is_gone_is_submitted_again(keeper, world, lines, state):
    keeper.look()
    world.state = state
    keeper.look()
    assert world.submissions == 2
    assert "submitting it again" in "".join(lines)


def test_a_job_that_somebody_cancelled_is_left_alone_and_said_once(keeper, world, lines, tmp_path):
    keeper.look()
    world.state = "CANCELED"
    keeper.look()
    keeper.look()
    assert world.submissions == 1
    assert [line for line in lines if "stopped by somebody" in line] == lines[-1:]
    assert not (tmp_path / "ready").exists()


def test_trouble_is_said_when_it_changes_and_tried_again(keeper, world, lines):
    for trouble in ("no Kafka", "no Kafka", "no database"):
        world.trouble = ConfigError(trouble)
        keeper.look()
    world.trouble = None
    keeper.look()
    assert lines == ["waiting: no Kafka", "waiting: no database"]
    assert world.submissions == 1


def test_trouble_that_lasts_is_said_again(keeper, world, lines, monkeypatch):
    monkeypatch.setattr(follow, "REPEAT_SECONDS", 0.0)
    world.trouble = ConfigError("no Kafka")
    keeper.look()
    keeper.look()
    assert len(lines) == 2


def test_it_stops_the_job_with_a_savepoint(keeper, world, lines, tmp_path):
    keeper.look()
    keeper.stop()
    assert len(world.stops) == 1
    assert lines[-1].endswith("file:/savepoint")
    assert not (tmp_path / "ready").exists()


def test_a_job_that_does_not_stop_is_said(keeper, world, lines):
    keeper.look()
    world.trouble = NotStopped("job took no savepoint within 60 s, and goes on")
    keeper.stop()
    assert "goes on" in lines[-1]


def test_new_log_lines_are_told_with_their_process(tmp_path, lines):
    old = tmp_path / "flink--standalonesession-0-flink-jobmanager.log"
    old.write_text("before\n")
    tail = LogTail(tmp_path, lines.append)
    with old.open("a") as file:
        file.write("after\nhalf")
    (tmp_path / "flink-me-taskexecutor-12-4f2a.log").write_text("new\n")
    tail()
    assert lines == ["jobmanager flink-jobmanager | after", "taskmanager 4f2a | new"]
    with old.open("a") as file:
        file.write(" a line\n")
    tail()
    assert lines[2:] == ["jobmanager flink-jobmanager | half a line"]


def test_a_log_that_is_rolled_over_or_cut_is_read_from_its_start(tmp_path, lines):
    log = tmp_path / "x.log"
    log.write_text("old\n")
    tail = LogTail(tmp_path, lines.append)
    log.rename(tmp_path / "x.log.1")
    log.write_text("rolled over\n")
    tail()
    log.write_text("cut\n")
    tail()
    tail()
    assert lines == ["x | rolled over", "x | cut"]


def test_the_jobs_of_all_pipelines_are_kept_and_it_is_ready_when_all_run(monkeypatch, tmp_path):
    looks, stopped, ready = [], [], tmp_path / "ready"

    class Fake:
        def __init__(self, settings, say):
            self.name = settings.flink_job_name

        def look(self):
            looks.append((self.name, ready.exists()))
            if len(looks) == 6:
                signal.raise_signal(signal.SIGTERM)
            return self.name == "a" or len(looks) > 2

        def stop(self):
            stopped.append((self.name, ready.exists()))

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(follow, "Keeper", Fake)
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(follow.tend, "in_background", lambda *_: nullcontext())
    try:
        follow.follow([load_settings(flink_job_name=name) for name in "ab"], print, ready)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert looks == [("a", False), ("b", False), ("a", False), ("b", False), ("a", True), ("b", True)]
    assert stopped == [("a", False), ("b", False)]
