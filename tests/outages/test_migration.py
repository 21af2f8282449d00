"""A running pipeline goes to another model and back, under traffic, while parts of it are killed; and to a gateway."""

import json
import re
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from embedstream import services
from support.check import assert_table_equals_topic
from support.remote import KEY, OpenAi, Reply, served, vector
from support.service import running_service
from support.stack import producing, running_stack, wait
from support.traffic import Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BATCHES = 20


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    with running_service(tmp_path_factory.mktemp("other"), "fake:24") as service:
        yield service


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    settings = {"EMBEDDING_MODEL": "fake:16", "FLINK_CHECKPOINT_INTERVAL_MS": "1000", "FLINK_PARALLELISM": "2"}
    with running_stack(tmp_path_factory.mktemp("migrated") / "stack", settings) as stack:
        yield stack
    assert stack.log_files_with(KEY) == []


@pytest.fixture
def gateway(tmp_path):
    """A service before `server`, which keeps OpenAI's limits."""
    server = OpenAi(tokens=1_000_000, requests=3000)
    with served(server) as url:
        settings = {"REMOTE_URL": f"{url}/v1", "REMOTE_MODEL": server.model, "REMOTE_KEY": KEY, "REMOTE_PRICE": "0.02"}
        with running_service(tmp_path, EMBEDDING_ENGINE="remote", **settings) as service:
            yield SimpleNamespace(url=service.url, server=server)


def migrate(stack, step, *options):
    return json.loads(stack.command("migrate", step, *options, "--json", timeout=90).stdout)


def fill(stack):
    """Whatever is away meanwhile."""
    deadline = time.monotonic() + 90
    while (done := stack.command("migrate", "resume", check=False, timeout=90)).returncode:
        assert time.monotonic() < deadline, done.stderr


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
        fill(stack)
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


def standstill(gateway):
    with suppress(httpx.HTTPError):
        return (httpx.get(f"{gateway.url}/info").json()["remote"]["standstill"] or {}).get("code")
    return "away"


def assert_of_server(stack, server):
    """Every vector is the very one that the server, as it was at first, gives for the row's text."""
    rows = stack.query("SELECT text, embedding, token_count, truncated FROM text_message_embeddings")
    assert np.allclose([row[1] for row in rows], [vector(row[0], server.dimension) for row in rows], atol=1e-6)
    assert {row[2:] for row in rows} == {(None, False)}


def move(stack, gateway, traffic):
    """The server goes away while messages come, and comes back with other vectors."""
    server = gateway.server
    with producing(stack, (traffic.records(60) for _ in range(5)), 0.2):
        server.twist = lambda _: Reply(502, b"<html>Bad Gateway</html>")
        wait(lambda: standstill(gateway) == "remote_failing", 30, "the standstill")
        server.seed, server.twist = "another model ", None
        wait(lambda: standstill(gateway) == "space_moved", 60, "the canary")


def test_a_gateway_whose_server_moves_is_waited_for(stack, gateway):
    former = services.find(stack.settings)[0].embedding_service_url
    traffic = Traffic(int(time.time()), ids=300, start_ms=int(time.time() * 1000) - 600_000, step_ms=1)
    stack.produce(traffic.records(600))
    migrate(stack, "start", "--service", gateway.url, "--share", "1")
    assert migrate(stack, "cut-over")["space"].startswith("text-embedding-3-small")
    assert_equal(stack, gateway.url)
    assert_of_server(stack, gateway.server)
    line = next(line for line in stack.command("status").stdout.splitlines() if line.startswith("remote "))
    assert re.fullmatch(
        r"remote +openai, [\d,]+ tokens today in \d+ requests, cost 0\.0\d+; .* a minute allowed.*", line
    )
    move(stack, gateway, traffic)
    answer = httpx.post(f"{gateway.url}/generate", json={"text": uuid.uuid4().hex})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "space_moved")
    health = stack.status()["health"]
    assert health["state"] != "healthy"
    assert any("moved" in reason for reason in health["reasons"])
    gateway.server.seed = ""
    wait(lambda: standstill(gateway) is None, 90, "the gateway to go on")
    assert_equal(stack, gateway.url)
    assert_of_server(stack, gateway.server)
    migrate(stack, "roll-back")
    migrate(stack, "abort")
    assert_equal(stack, former)
