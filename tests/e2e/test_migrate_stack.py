"""A running pipeline goes to another model and back, under traffic, while parts of it are killed."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from support.check import assert_table_equals_topic
from support.service import running_service
from support.stack import producing, running_stack, wait
from support.traffic import Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BATCHES = 20


@pytest.fixture
def other(tmp_path):
    with running_service(tmp_path, "fake:24") as service:
        yield service


@pytest.fixture
def stack(tmp_path):
    settings = {"EMBEDDING_MODEL": "fake:16", "FLINK_CHECKPOINT_INTERVAL_MS": "1000", "FLINK_PARALLELISM": "2"}
    with running_stack(tmp_path / "stack", settings) as stack:
        yield stack


def migrate(stack, step, *options):
    return json.loads(stack.command("migrate", step, *options, "--json", timeout=90).stdout)


def killed(stack, seconds, *arguments):
    """A command that is killed by SIGKILL, so long after there is a migration."""
    command = [sys.executable, "-m", "embedstream", "migrate", *arguments]
    process = subprocess.Popen(command, env=stack.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = "SELECT to_regclass('text_message_embeddings_migration') IS NOT NULL"
    wait(lambda: stack.query(begun) == [(True,)], 60, "the migration to begin")
    time.sleep(seconds)
    process.kill()
    process.wait()


def assert_equal(stack, url):
    """By the independent check, with the vectors of the service at `url`."""
    stack.wait_until_done()
    view = SimpleNamespace(query=stack.query, settings=stack.settings.model_copy(update={"embedding_service_url": url}))
    assert_table_equals_topic(view)


def assert_proven(stack, url):
    """By the audit as well; what that says of the other table."""
    assert_equal(stack, url)
    report = json.loads(stack.command("audit", "--sample", "50", "--json", timeout=90).stdout)
    assert (report["equal"], report["closes"], report["sampled"]) == (True, True, 50), report
    return report["beside"]


def test_another_model_and_back_under_traffic_and_kills(stack, other):
    traffic = Traffic(int(time.time()), ids=600, start_ms=int(time.time() * 1000) - 3_600_000, step_ms=1)
    stack.produce(traffic.records(3000))
    stack.wait_until_done()
    start = ("start", "--service", other.url, "--share", "0.5")
    with producing(stack, (traffic.records(60) for _ in range(BATCHES)), 0.4):
        killed(stack, 0.2, *start)
        stack.python_workers()[0].kill()
        killed(stack, 2.5, *start)
        stack.kill("postgres")
        wait(lambda: stack.command("migrate", "resume", check=False, timeout=90).returncode == 0, 90, "the filling")
        cut = migrate(stack, "cut-over")
        assert cut["space"].startswith("fake:24")
        stack.python_workers()[0].kill()
    beside = assert_proven(stack, other.url)
    assert (beside["table"], beside["uncopied"], beside["wrong"]) == ("text_message_embeddings_previous", 0, 0)
    assert "fake:24" in stack.status()["service"]
    assert json.loads(stack.command("search", "text", "--json").stdout)
    with producing(stack, (traffic.records(60) for _ in range(5)), 0.2):
        migrate(stack, "roll-back")
    assert_equal(stack, stack.settings.embedding_service_url)
    with producing(stack, (traffic.records(60) for _ in range(5)), 0.2):
        migrate(stack, "cut-over")
        migrate(stack, "finish")
    assert assert_proven(stack, other.url) is None
    findings = json.loads(stack.command("doctor", "--json", check=False).stdout)
    assert [each for each in findings if each["state"] == "FAIL"] == []
