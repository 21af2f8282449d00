from contextlib import nullcontext

import pytest

from embedstream import flink
from embedstream import submit as module
from embedstream.errors import ConfigError
from embedstream.flink import Job, NotStopped, job_parameters
from embedstream.settings import load_settings
from embedstream.submit import submit

OLD = load_settings(kafka_input_topic="old", pgvector_password="s3cret")
NEW = load_settings(kafka_input_topic="new", flink_parallelism=3, pgvector_password="s3cret")


class World:
    """A cluster on which jobs come to run, but those that the test names; `log` is what was asked of it, in order."""

    def __init__(self, running=True):
        self.log = []
        self.jobs = []
        self.carried = job_parameters(OLD)
        self.origin = {}
        self.fails = {}
        self.next_id = 0
        if running:
            self.run(OLD)
            self.log.clear()

    def trouble(self, what, topic=None):
        self.log.append(f"{what} {topic}" if topic else what)
        error = self.fails.get((what, topic)) or self.fails.get(what)
        if error:
            raise error

    def check(self, settings):
        self.trouble("check")

    def prepare(self, settings, say, *, adopts):
        self.trouble("prepare")

    def begin(self, new):
        self.trouble("begin", new.settings.kafka_input_topic)
        return []

    def carried_by(self, job):
        return self.carried

    def plan(self, settings):
        self.trouble("plan")

    def run(self, settings, arguments=()):
        self.trouble("run", settings.kafka_input_topic)
        self.next_id += 1
        self.jobs.append(Job(f"{settings.kafka_input_topic}-{self.next_id}", settings.flink_job_name, "RUNNING", 0))

    def settings_of(self, job):
        return self.carried

    def live_jobs(self, name):
        self.trouble("look")
        return list(self.jobs)

    def job(self, name):
        return self.jobs[-1] if self.jobs else None

    def rivals(self, job):
        return [each for each in self.jobs if each is not job]

    def is_live(self, job):
        return job in self.jobs

    def runs(self, job):
        return ("never", job.id.partition("-")[0]) not in self.fails

    def stop(self, job, timeout):
        self.trouble("stop")
        self.jobs.remove(job)
        return "file:/savepoint"

    def cancel(self, job):
        self.trouble("cancel")
        self.jobs.remove(job)

    def cause(self, job):
        return "ModuleNotFoundError: No module named 'embedstream'"

    def why_ended(self, name):
        return "is not known to the cluster"

    def overview(self):
        return {"slots-total": 2}


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(module.doctor, "check_submission", world.check)
    monkeypatch.setattr(module, "_begin", world.begin)
    monkeypatch.setattr(module, "forgotten", lambda settings: [])
    monkeypatch.setattr(module.starts, "origin", lambda settings: world.origin)
    monkeypatch.setattr(module.starts, "as_arguments", lambda settings, chosen: [])
    monkeypatch.setattr(module, "_prepare", world.prepare)
    monkeypatch.setattr(flink, "Cluster", lambda settings: world)
    monkeypatch.setattr(flink, "run", world.run)
    monkeypatch.setattr(flink, "plan", world.plan)
    return world


def replaced(raises=None, timeout=0.0):
    with pytest.raises(ConfigError, match=raises) if raises else nullcontext():
        return submit(NEW, lambda _: None, replace=True, timeout=timeout)


def topics(world):
    return [job.id.partition("-")[0] for job in world.jobs]


def test_a_job_that_runs_is_left_alone(world):
    submit(OLD, lambda _: None)
    assert (world.log, topics(world)) == ([], ["old"])


def test_a_job_that_runs_with_other_settings_is_refused_and_left_alone(world):
    with pytest.raises(ConfigError, match=r"FLINK_PARALLELISM is 2 there, 3 here.*submit --replace"):
        submit(NEW, lambda _: None)
    assert (world.log, topics(world)) == ([], ["old"])


@pytest.mark.parametrize("name", ["CLUSTER_ID", "TABLE_ID"])
def test_a_job_of_another_world_is_refused_though_all_names_are_the_same(world, name):
    world.carried = {**world.carried, name: "theirs"}
    world.origin = {name: "ours"}
    with pytest.raises(ConfigError, match=f"{name} is theirs there, ours here"):
        submit(OLD, lambda _: None)


def test_a_job_of_an_earlier_version_carries_nothing_and_is_left_alone(world):
    world.carried, world.origin = {}, {"TABLE_ID": "ours"}
    assert submit(NEW, lambda _: None).id == "old-1"


def test_the_same_world_by_other_addresses_is_the_same(world):
    there = OLD.model_copy(update={"kafka_bootstrap_servers": "kafka:29092", "pgvector_host": "postgres"})
    assert submit(there, lambda _: None).id == "old-1"


def test_a_job_is_replaced_once_all_is_known_to_be_well(world):
    assert replaced().id == "new-2"
    assert world.log == ["check", "prepare", "plan", "stop", "begin new", "run new"]


@pytest.mark.parametrize("what", ["check", "prepare", "plan"])
def test_nothing_is_stopped_where_the_new_job_could_not_start(world, what):
    world.fails[what] = ConfigError("2 slots")
    replaced("^2 slots$")
    assert topics(world) == ["old"]
    assert "stop" not in world.log


def test_a_job_that_takes_no_savepoint_is_cancelled(world):
    world.fails["stop"] = NotStopped("job took no savepoint")
    replaced()
    assert topics(world) == ["new"]


def test_the_old_job_runs_again_where_the_new_one_is_refused(world):
    world.fails["run", "new"] = ConfigError("flink run ended with 1: no such class")
    replaced(r"no such class; the old job runs again with its own settings \(old-2\)")
    assert topics(world) == ["old"]


def test_the_old_job_runs_again_where_the_new_one_does_not_come_to_run(world):
    world.fails["never", "new"] = True
    replaced("FLINK_PYTHON is to name .*; the old job runs again")
    assert topics(world) == ["old"]
    assert world.log.index("cancel") < world.log.index("run old")


def test_the_old_job_runs_again_after_an_interrupt(world):
    world.fails["run", "new"] = KeyboardInterrupt()
    replaced("KeyboardInterrupt; the old job runs again")
    assert topics(world) == ["old"]


def test_the_old_job_runs_on_where_nothing_stopped_it(world):
    world.fails["stop"] = ConfigError("no Flink JobManager answers")
    replaced(r"no Flink JobManager answers; the old job runs on \(old-1\)")
    assert "run old" not in world.log


def test_what_to_do_where_neither_job_can_be_started(world):
    world.fails["run", "new"] = world.fails["look"] = ConfigError("no Flink JobManager answers")
    replaced("the old job could not be started again .* run `embedstream submit`")


def test_the_settings_of_an_earlier_version_s_job_are_not_guessed(world):
    world.carried = {}
    world.fails["run", "new"] = ConfigError("refused")
    replaced("refused; what the old job was submitted with is not known")
    assert topics(world) == []


def test_of_two_who_submit_at_once_one_job_stays(world, monkeypatch):
    run = world.run

    def both(settings, arguments=()):
        run(OLD)
        run(settings)

    monkeypatch.setattr(flink, "run", both)
    assert submit(NEW, lambda _: None, replace=True).id == "new-3"
    assert topics(world) == ["new"]
