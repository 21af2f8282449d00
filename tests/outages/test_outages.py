"""Outages eleven times as long as the checkpoint time-out, under load: the job waits, and goes on where it was."""

import shutil
import time
from contextlib import contextmanager

import httpx
import pytest
import yaml

from embedstream import flink
from support.check import assert_table_equals_topic
from support.faults import environment_number
from support.stack import producing, running_stack, suspended, wait
from support.threads import repeated
from support.traffic import Traffic

CHECKPOINT_TIMEOUT = environment_number("OUTAGES_CHECKPOINT_TIMEOUT", 5)
OUTAGE = 11 * CHECKPOINT_TIMEOUT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2 * OUTAGE + 600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    directory = tmp_path_factory.mktemp("outages")
    settings = {
        "EMBEDDING_MODEL": "fake:64", "FLINK_PARALLELISM": "2", "FLINK_CHECKPOINT_INTERVAL_MS": "1000",
        "EMBEDDING_SERVICE_TIMEOUT": "3", "HEALTH_MAX_WAITING_SECONDS": "5",
    }  # fmt: skip
    with running_stack(directory / "stack", settings, "--no-job") as stack:
        stack.environment["FLINK_CONF_DIR"] = str(client_configuration(directory / "conf"))
        stack.command("submit", timeout=180)
        yield stack


def client_configuration(directory):
    """Flink's own, with a shorter checkpoint time-out."""
    shutil.copytree(flink.flink_home() / "conf", directory)
    path = directory / "config.yaml"
    options = yaml.safe_load(path.read_text())
    options["execution.checkpointing.timeout"] = f"{CHECKPOINT_TIMEOUT}s"
    path.write_text(yaml.safe_dump(options))
    return directory


@pytest.fixture
def traffic(request):
    seed = sum(request.node.name.encode())
    return Traffic(seed=seed, ids=500, start_ms=int(time.time() * 1000) - 3_600_000)


@contextmanager
def console_open(stack):
    """Somebody looks at the overview all the time: the statuses of what it answers, and how long each took."""
    url = f"{stack.parts()['console']['address']}/parts/overview"
    answers = []
    with httpx.Client(trust_env=False, timeout=60) as client:

        def look():
            answer = client.get(url)
            answers.append((answer.status_code, answer.elapsed.total_seconds()))

        with repeated(look, pause=1.0):
            yield answers


@pytest.mark.parametrize(("part", "waits_for"), [("service", "service"), ("postgres", "database")])
def test_the_job_waits_and_says_for_what(stack, traffic, say, part, waits_for):
    before = stack.restarts()
    failed = stack.status()["failed_checkpoints"]
    load = producing(stack, (traffic.records(50) for _ in range(OUTAGE // 2)), pause=1.0)
    with console_open(stack) as answers, load:
        time.sleep(3)
        with suspended(stack.processes_of(part)):
            time.sleep(OUTAGE)
            found = stack.status()
        ended = time.monotonic()
    stack.wait_until_done()
    slowest = max(seconds for _, seconds in answers)
    say(f"{part}: away for {OUTAGE} s, lag {found['lag']}, recovered in {time.monotonic() - ended:.1f} s")
    say(f"{part}: the console gave {len(answers)} overviews, the slowest within {slowest:.1f} s")
    assert {status for status, _ in answers} == {200}
    assert len(answers) > OUTAGE / 2
    assert found["waits_for"] == [waits_for]
    assert found["health"]["state"] == "degraded"
    assert found["since_checkpoint_seconds"] > OUTAGE - CHECKPOINT_TIMEOUT
    assert found["oldest_unread_seconds"] > OUTAGE - CHECKPOINT_TIMEOUT
    assert found["failed_checkpoints"] - failed >= 8
    assert stack.restarts() == before
    assert_table_equals_topic(stack)


def test_kafka_comes_back(stack, traffic, say):
    with console_open(stack) as answers, producing(stack, (traffic.records(50) for _ in range(6)), pause=1.0):
        time.sleep(3)
        with suspended(stack.processes_of("kafka")):
            time.sleep(OUTAGE)
        ended = time.monotonic()
    stack.wait_until_done()
    assert {status for status, _ in answers} == {200}
    say(f"kafka: away for {OUTAGE} s, recovered in {time.monotonic() - ended:.1f} s")
    assert_table_equals_topic(stack)


def test_a_job_that_waits_can_be_cancelled_but_not_stopped(stack, traffic):
    job, cluster = stack.job(), flink.Cluster(stack.settings)
    with suspended(stack.processes_of("service")):
        stack.produce(traffic.records(50))
        wait(lambda: stack.status()["waits_for"] == ["service"], 60, "a job that waits")
        with pytest.raises(flink.NotStopped):
            cluster.stop(job, timeout=10)
        assert stack.job() == job
        replacing = stack.command("submit", "--replace", check=False, timeout=180)
        assert (replacing.returncode, stack.job()) == (2, job)
        cluster.cancel(job)
        wait(lambda: stack.job() is None, 30, "the job to end")
    stack.command("submit", timeout=180)
    stack.wait_until_done()
    assert_table_equals_topic(stack)
