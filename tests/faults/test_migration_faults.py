"""A table goes to another model, back and there again while anything breaks; then table and topic are compared.

Runs where FAULTS_COUNT asks for more than the short cut, as `make faults` does: seventeen faults, about seven minutes,
in the order that FAULTS_SEED gives; FAULTS_ONLY chooses among them as among the others.
"""

import json
import os
import random
import re
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from support.check import assert_table_equals_topic
from support.faults import environment_number
from support.keeper import kept_job
from support.migrating import NAMES, TABLE, MigrationFaults, Operator, OtherService, spaces_of
from support.proxies import ServiceProxy, TcpProxy
from support.stack import producing, running_stack, wait
from support.traffic import Traffic
from support.watch import Watch

SEED = environment_number("FAULTS_SEED", int(time.time()))
SHORT = 3
PARTITIONS = 4
FIRST = 12_000
LOAD = 1_500
BATCH = 150
# At a share of a hundredth the first rows take about a minute and a half.
SHARE = "0.01"
CHOSEN = [name for name in NAMES if re.search(os.environ.get("FAULTS_ONLY", ""), name)]
FILLING, SWITCHES = 4, ("cut-over", "roll-back", "cut-over", "roll-back", "cut-over")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(environment_number("FAULTS_COUNT", SHORT) <= SHORT, reason="make faults runs it"),
    pytest.mark.skipif(not CHOSEN, reason="FAULTS_ONLY leaves none of its faults"),
]


@pytest.fixture
def stack(tmp_path):
    settings = {
        "EMBEDDING_MODEL": "fake:64", "FLINK_PARALLELISM": "2", "FLINK_CHECKPOINT_INTERVAL_MS": "1000",
        "EMBEDDING_SERVICE_TIMEOUT": "3", "HEALTH_MAX_AGE_SECONDS": "5", "HEALTH_MAX_WAITING_SECONDS": "15",
        "INDEX_MIN_ROWS": "1000",
    }  # fmt: skip
    with running_stack(tmp_path / "stack", settings, "--no-job") as stack:
        yield stack


@pytest.fixture
def run(stack, tmp_path, say):
    settings = stack.settings
    service, database = ServiceProxy(settings.embedding_service_url), TcpProxy(settings.pgvector_port)
    with (
        service,
        database,
        OtherService(tmp_path, "fake:48") as other,
        kept_job(stack, service, database, tmp_path, PARTITIONS) as keeper,
        Operator(stack, keeper.proxies, tmp_path / "migrate.log") as operator,
    ):
        faults = MigrationFaults(stack, service, database, keeper, other, operator)
        yield Run(stack, faults, other, operator, say)


class Run:
    """Steps of a migration and faults, drawn from the seed: none comes again before all were there."""

    def __init__(self, stack, faults, other, operator, say):
        self.stack, self.faults, self.other, self.operator, self.say = stack, faults, other, operator, say
        self.chance = random.Random(SEED)
        start_ms = int(time.time() * 1000) - 4 * 3_600_000
        self.traffic = Traffic(SEED, ids=FIRST // 2, start_ms=start_ms, step_ms=1, poison=True)
        self.left = []
        self.number = 0

    def fault(self):
        self.left = self.left or self.chance.sample(CHOSEN, len(CHOSEN))
        return self.left.pop()

    def turn(self, watch, name, step=None):
        """A fault under load, and a step that is begun at about the same time; until both are over."""
        self.number += 1
        self.traffic.catch_up(LOAD)
        batches = [self.traffic.records(BATCH) for _ in range(LOAD // BATCH)]
        began = time.monotonic()
        with producing(self.stack, batches, 2.0 / len(batches), PARTITIONS):
            if step:
                self.operator.begin(step)
            time.sleep(self.chance.uniform(0, 2.5))
            self.faults.inject(name)
        ended = time.monotonic()
        self.stack.produce([self.traffic.probe(f"probe-{self.number}")], PARTITIONS)
        sent = watch.sent()
        wait(lambda: self.is_stored(f"probe-{self.number}"), 240, f"recovery from {name} (seed {SEED})")
        wait(lambda: watch.are_stored(sent), 240, f"all that was there before {name} (seed {SEED})")
        if step:
            self.operator.wait(240)
        over = time.monotonic() - ended
        self.say(f"{self.number:3} {step or '':9} {name:31} {ended - began:5.1f} s, over after {over:5.1f} s")

    def is_stored(self, id):
        try:
            return self.stack.query(f"SELECT 1 FROM {TABLE} WHERE id = %s", id) == [(1,)]
        except Exception:  # noqa: BLE001 - the database may be what is broken
            return False

    def prove(self, url):
        """That the table is the topic's, with the vectors of the service at `url`, and what the audit says; nobody
        sends meanwhile.
        """
        with self.stack.gate:
            self.stack.wait_until_done(300)
            settings = self.stack.settings.model_copy(update={"embedding_service_url": url})
            rows, deleted, dead = assert_table_equals_topic(SimpleNamespace(query=self.stack.query, settings=settings))
            assert_vectors_of(self.stack, url)
            audit = self.stack.command("audit", "--sample", "200", "--json", check=False, timeout=300)
        self.say(f"    {len(rows):,} rows, {len(deleted):,} deleted, {len(dead):,} dead letters; audit: {audit.stdout}")
        assert audit.returncode == 0, audit.stderr
        return json.loads(audit.stdout)["beside"]


def assert_vectors_of(stack, url):
    """Every row is of that service's space, with the very vector that it gives for its text."""
    info = httpx.get(f"{url}/info", trust_env=False).json()
    rows = stack.query(f"SELECT text, embedding, model_name, model_revision FROM {TABLE}")
    assert {row[2:] for row in rows} == {(info["model_name"], info["model_revision"])}
    for start in range(0, len(rows), 200):
        some = rows[start : start + 200]
        answer = httpx.post(f"{url}/generate", json={"texts": [row[0] for row in some]}, trust_env=False, timeout=60)
        expected = np.array(answer.json()["embeddings"], np.float32)
        assert np.array_equal(np.array([row[1] for row in some], np.float32), expected)


def test_a_table_goes_to_another_model_whatever_breaks(stack, run, say):
    run.stack.produce(run.traffic.oddities() + run.traffic.records(FIRST), PARTITIONS)
    stack.wait_until_done(240)
    former = stack.settings.embedding_service_url
    with Watch(stack, PARTITIONS) as watch, spaces_of(stack) as seen:
        run.operator.begin("start", "--service", run.other.proxy.url, "--share", SHARE)
        for name in ["kill migrate", *(run.fault() for _ in range(FILLING))]:
            run.turn(watch, name)
        run.operator.options = (*run.operator.options[:-1], "1")
        run.operator.kill()
        run.operator.wait(240)
        beside = run.prove(former)
        assert (beside["uncopied"], beside["wrong"], beside["sampled"]) == (0, 0, 200)
        for step in SWITCHES:
            run.turn(watch, run.fault(), step)
            run.turn(watch, run.fault())
        beside = run.prove(run.other.url)
        assert (beside["uncopied"], beside["wrong"]) == (0, 0)
        run.turn(watch, run.fault(), "finish")
        run.turn(watch, run.fault())
    assert run.prove(run.other.url) is None
    say(f"seed {SEED}: {len(run.traffic.sent):,} messages, {run.operator.killed} commands killed")
    say(f"status and doctor: {watch}")
    say(f"commands: {[said for _, said in run.operator.said if said]}")
    watch.assert_never_content_in_vain()
    assert len(seen) > 100
    assert {len(each) for each in seen} == {1}, set(seen)
    assert {dimension for each in seen for *_, dimension in each} == {48, 64}
    assert stack.log_files_with("Error received from SDK harness") == []
