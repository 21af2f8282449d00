"""Anything is killed, frozen, cut or made to lie, in random order and under load; then table and topic are compared.

FAULTS_SEED, FAULTS_COUNT and FAULTS_MESSAGES set the run; the defaults are a short cut of what `make faults` does.
FAULTS_ONLY is a regular expression for the names of the faults, where not all are wanted.
"""

import os
import random
import re
import time
from collections import Counter

import pytest

from support.check import assert_table_equals_topic
from support.faults import Faults, environment_number
from support.keeper import kept_job
from support.proxies import ServiceProxy, TcpProxy
from support.stack import producing, running_stack, wait
from support.traffic import Traffic
from support.upheavals import Upheavals
from support.watch import Watch

SEED = environment_number("FAULTS_SEED", int(time.time()))
SHORT = 3
COUNT = environment_number("FAULTS_COUNT", SHORT)
MESSAGES = environment_number("FAULTS_MESSAGES", 6_000)
ONLY = os.environ.get("FAULTS_ONLY", "")
PARTITIONS = 4
BATCH = 250
# Records that a fault may send of its own.
SLACK = 2_000

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]


@pytest.fixture
def stack(tmp_path):
    """The embedded stack without its job, and with an engine that is never the bottleneck."""
    settings = {
        "EMBEDDING_MODEL": "fake:64", "FLINK_PARALLELISM": "6", "FLINK_CHECKPOINT_INTERVAL_MS": "1000",
        "EMBEDDING_SERVICE_TIMEOUT": "3", "HEALTH_MAX_AGE_SECONDS": "5", "HEALTH_MAX_WAITING_SECONDS": "15",
    }  # fmt: skip
    with running_stack(tmp_path / "stack", settings, "--no-job") as stack:
        yield stack


@pytest.fixture
def traffic():
    return Traffic(SEED, ids=MESSAGES // 10, start_ms=int(time.time() * 1000) - 4 * 3_600_000, step_ms=1, poison=True)


@pytest.fixture
def faults(stack, traffic, tmp_path):
    settings = stack.settings
    service, database = ServiceProxy(settings.embedding_service_url), TcpProxy(settings.pgvector_port)
    with service, database, kept_job(stack, service, database, tmp_path, PARTITIONS) as keeper:
        upheavals = Upheavals(stack, keeper, traffic, PARTITIONS, tmp_path)
        yield Faults(stack, service, database, keeper, upheavals)


def is_stored(stack, id):
    try:
        return stack.query("SELECT 1 FROM text_message_embeddings WHERE id = %s", id) == [(1,)]
    except Exception:  # noqa: BLE001 - the database may be what is broken
        return False


def chosen_names(faults):
    """What people do takes a minute each to mend: too long for the short cut."""
    names = [name for name in faults.names if re.search(ONLY, name)]
    return names if COUNT > SHORT else [name for name in names if name not in faults.upheavals.names]


def schedule(names, chance):
    """Every fault once before any comes again."""
    chosen = []
    while len(chosen) < COUNT:
        chosen += chance.sample(names, len(names))
    return chosen[:COUNT]


def test_nothing_is_lost_and_nothing_is_stale_whatever_breaks(stack, faults, traffic, say):
    stack.produce(traffic.oddities(), PARTITIONS)
    names = schedule(chosen_names(faults), random.Random(SEED))
    with Watch(stack, PARTITIONS) as watch:
        recoveries = break_all(stack, faults, traffic, watch, names, say)
        faults.settle()
    stack.wait_until_done(300)
    rows, deleted, dead = assert_table_equals_topic(stack)
    audit = stack.command("audit", "--json", check=False, timeout=300)
    say(
        f"seed {SEED}: {len(traffic.sent):,} messages, {len(rows):,} rows, {len(deleted):,} deleted, {len(dead):,} dead"
    )
    say(f"longest recoveries: {recoveries.most_common(3)}")
    say(f"faults: {dict(Counter(names))}")
    say(f"status and doctor: {watch}")
    say(f"audit: {audit.stdout}")
    assert audit.returncode == 0, audit.stderr
    watch.assert_never_content_in_vain()
    assert_no_restart_was_caused_by_data(stack)


def break_all(stack, faults, traffic, watch, names, say):
    """One after another, each under load; returns how long the longest recovery from each took."""
    chance, recoveries = random.Random(SEED), Counter()
    for number, name in enumerate(names):
        share = MESSAGES // COUNT
        traffic.catch_up(share + SLACK)
        batches = [traffic.records(BATCH) for _ in range(share // BATCH)] + [traffic.records(share % BATCH + 1)]
        began = time.monotonic()
        with producing(stack, batches, 2.0 / len(batches), PARTITIONS):
            time.sleep(chance.uniform(0, 1.5))
            faults.inject(name)
        ended = time.monotonic()
        probe = f"probe-{number}"
        stack.produce([traffic.probe(probe)], PARTITIONS)
        before = watch.sent()
        wait(lambda probe=probe: is_stored(stack, probe), 240, f"recovery from {name} (seed {SEED})")
        wait(lambda before=before: watch.are_stored(before), 240, f"all that was there before {name} (seed {SEED})")
        recoveries[name] = max(recoveries[name], time.monotonic() - ended)
        say(f"{number + 1:3} {name:22} {ended - began:5.1f} s, recovered in {time.monotonic() - ended:5.1f} s")
    return recoveries


def assert_no_restart_was_caused_by_data(stack):
    """Whatever the function raises reaches Flink in these words; a worker that was killed does not."""
    raised = stack.log_files_with("Error received from SDK harness")
    assert raised == []
