import os
import signal
import sys
import time

import psutil
import pytest

from embedstream.errors import ConfigError
from embedstream.local import runner
from embedstream.local.job import Job
from embedstream.local.part import Part, PartFailed, log_tail, running
from embedstream.local.process import Command, explain_exit
from embedstream.local.runner import GiveUp
from embedstream.local.supervisor import Supervisor

SLEEP = "print('up', flush=True); import time; time.sleep(60)"


class Script(Part):
    """A part that is a few lines of Python; ready when it has said `up`."""

    def __init__(self, directory, name, code=SLEEP, *, before=(), needs=(), follows=()):
        super().__init__(directory / f"{name}.log", "nowhere")
        self.name = name
        self.needs, self.follows = needs, follows
        self.code, self.before = code, before
        self.starts = 0

    def preparations(self):
        return [python(code, doing="preparing") for code in self.before]

    def program(self):
        self.starts += 1
        return python(self.code)

    def is_ready(self):
        return "up" in log_tail(self.log).splitlines()


def python(code, doing="starting"):
    return Command([sys.executable, "-c", code], dict(os.environ), doing=doing)


class Watched:
    """Runs a supervisor, and notes what it says and records."""

    def __init__(self):
        self.said = []
        self.records = ()
        self.history = []

    def run(self, *parts, when_ready=lambda: None, **options):
        def changed(records):
            self.records = records
            self.history.append({record.name: record.state for record in records})

        Supervisor(parts, lambda name, message: self.said.append((name, message)), changed).run(when_ready, **options)

    def about(self, name):
        return [message for who, message in self.said if who == name]

    def pid(self, name):
        return next(record.process.pid for record in self.records if record.name == name)


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(runner, "LONGEST_DELAY", 0.01)
    return Watched()


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def children():
    """What this process has started since the test began; servers that other tests share do not count."""
    before = psutil.Process().children(recursive=True)
    return lambda: [child for child in psutil.Process().children(recursive=True) if child not in before]


def test_parts_start_after_what_they_need_and_stop_in_reverse(tmp_path, watched, children):
    first, second = Script(tmp_path, "first"), Script(tmp_path, "second", needs=("first", "not here"))
    watched.run(first, second, when_ready=stop)
    assert {"first": "starting", "second": "waiting"} in watched.history
    assert {"first": "starting", "second": "starting"} not in watched.history
    assert [name for name, message in watched.said if message == "stopped"] == ["second", "first"]
    assert children() == []


def test_all_parts_still_run_before_the_stop(tmp_path, watched):
    left = []
    parts = Script(tmp_path, "first"), Script(tmp_path, "second")
    watched.run(
        *parts,
        when_ready=stop,
        before_stop=lambda: left.extend(record.process.is_alive() for record in watched.records),
    )
    assert left == [True, True]


def test_a_follower_waits_for_the_start_alone(tmp_path, watched):
    first = Script(tmp_path, "first", before=["pass"])
    second = Script(tmp_path, "second", "print('up', flush=True); " + SLEEP, follows=("first",))
    watched.run(first, second, when_ready=stop)
    assert watched.about("first")[0] == "preparing"
    assert {"first": "starting", "second": "starting"} in watched.history


def test_a_killed_part_is_reported_and_started_again(tmp_path, watched, children):
    part = Script(tmp_path, "part")

    def kill_once():
        os.kill(watched.pid("part"), signal.SIGKILL)
        signal.setitimer(signal.ITIMER_REAL, 1)

    signal.signal(signal.SIGALRM, lambda *_: stop())
    watched.run(part, when_ready=kill_once)
    assert part.starts == 2
    assert any(message.startswith("ended with SIGKILL; the end of") for message in watched.about("part"))
    assert "| up" in watched.about("")
    assert children() == []


def test_children_of_a_dead_part_are_ended_before_it_starts_again(tmp_path, watched, children):
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); sys.exit(1)"
    with pytest.raises(GiveUp):
        watched.run(Script(tmp_path, "part", code))
    assert children() == []


def test_a_part_that_keeps_ending_stops_all(tmp_path, watched, children):
    part, other = Script(tmp_path, "part", "raise SystemExit(7)"), Script(tmp_path, "other")
    with pytest.raises(GiveUp, match="part ended with exit code 7, and 5 times before within 120 s"):
        watched.run(other, part)
    assert part.starts == 6
    assert ("other", "stopped") in watched.said
    assert children() == []


def test_a_part_that_says_that_it_cannot_run_stops_all_at_once(tmp_path, watched, children):
    part = Script(tmp_path, "part", "import sys; print('embedstream: no such model'); sys.exit(2)")
    with pytest.raises(ConfigError, match="part cannot run: no such model"):
        watched.run(Script(tmp_path, "other"), part)
    assert part.starts == 1
    assert children() == []


def test_a_part_that_is_not_ready_in_time_is_started_again(tmp_path, watched):
    part = Script(tmp_path, "part", "import time; time.sleep(60)")
    part.start_seconds = 0.2
    with pytest.raises(GiveUp, match="part not ready after 0 s"):
        watched.run(part)
    assert part.starts == 6


def test_a_part_that_does_something_lengthy_is_waited_for_and_says_so_once(tmp_path, watched):
    part = Script(tmp_path, "part", "import time; time.sleep(1); print('up', flush=True); time.sleep(60)")
    part.start_seconds = 0.2
    part.lengthy = lambda: "downloading a model"
    watched.run(part, when_ready=stop)
    assert part.starts == 1
    assert watched.about("part").count("downloading a model") == 1
    with running(part):
        pass


def test_a_program_that_is_not_there_is_reported(tmp_path, watched):
    part = Script(tmp_path, "part")
    part.program = lambda: Command(["/no/such/program"], {})
    with pytest.raises(GiveUp, match=r"cannot be started: .*/no/such/program"):
        watched.run(part)


def test_a_second_signal_does_not_wait(tmp_path, watched, children):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"

    def stop_twice():
        signal.signal(signal.SIGALRM, lambda *_: stop())
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        stop()

    started = time.monotonic()
    watched.run(Script(tmp_path, "part", code), when_ready=stop_twice)
    assert time.monotonic() - started < Part.stop_seconds / 2
    assert children() == []


def test_all_are_ended_even_if_one_of_them_cannot_be(tmp_path, watched, children):
    part = Script(tmp_path, "part")

    def fail():
        raise ValueError("a mistake of ours")

    part.before_stop = fail
    with pytest.raises(ValueError, match="a mistake of ours"):
        watched.run(Script(tmp_path, "other"), part, when_ready=stop)
    assert children() == []


class FakeJob(Job):
    def __init__(self, directory, findings):
        Part.__init__(self, directory / "job.log", "embedstream")
        self.findings = list(findings)
        self.submissions = 0

    def program(self):
        self.submissions += 1
        return python("pass")

    def look(self):
        if not self.findings:
            stop()
            return "runs"
        return self.findings.pop(0)

    def before_stop(self):
        return "took no savepoint"


@pytest.mark.parametrize(
    ("findings", "submissions"),
    [
        (["runs", "unknown", "runs"], 1),
        (["runs", "gone", "runs"], 2),
        (["stopped", "stopped"], 1),
        (["stopped", "gone"], 2),
    ],
)
def test_a_job_is_submitted_again_when_it_is_gone_and_left_alone_when_it_was_stopped(
    tmp_path, watched, monkeypatch, findings, submissions
):
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.0)
    job = FakeJob(tmp_path, findings)
    watched.run(job)
    assert job.submissions == submissions
    assert watched.about("job")[-2:] == ["took no savepoint", "stopped"]
    assert ({"job": "stopped"} in watched.history[:-1]) == ("stopped" in findings)


def test_one_part_by_itself(tmp_path, children):
    part = Script(tmp_path, "part", before=["print('prepared')"])
    with running(part):
        assert len(children()) == 1
    assert children() == []
    assert log_tail(part.log).splitlines() == ["prepared", "up"]


@pytest.mark.parametrize(("code", "before"), [("raise SystemExit(3)", ()), (SLEEP, ["raise SystemExit(3)"])])
def test_one_part_that_fails_shows_the_end_of_its_log(tmp_path, code, before, children):
    with pytest.raises(PartFailed, match="exit code 3"), running(Script(tmp_path, "part", code, before=before)):
        pass
    assert children() == []


def test_exit_codes_are_explained():
    assert explain_exit(1) == "exit code 1"
    assert explain_exit(-9) == "SIGKILL"


class Troubled(Script):
    """Runs on, and says once that it does not do its work."""

    troubles = 1

    def trouble(self):
        if not self.is_ready() or not self.troubles:
            return None
        self.troubles -= 1
        self.log.unlink()
        return "the task failed"


def test_a_part_in_trouble_is_started_again_and_its_reason_recorded(tmp_path, watched, monkeypatch):
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.1)
    part, reasons = Troubled(tmp_path, "troubled"), []

    def is_ready():
        reasons.append(watched.records[0].reason)
        if part.starts > 1 and Script.is_ready(part):
            os.kill(os.getpid(), signal.SIGTERM)
        return Script.is_ready(part)

    part.is_ready = is_ready
    watched.run(part)
    assert part.starts == 2
    assert "the task failed" in reasons
    assert any("the task failed" in message for message in watched.about("troubled"))
