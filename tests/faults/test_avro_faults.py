"""The faults that a worker meets, over Debezium's changes in Avro, a mapping and a table of chunks.

Runs where FAULTS_COUNT asks for more than the short cut, as `make faults` does: six faults, about four minutes, in the
order that FAULTS_SEED gives; FAULTS_ONLY chooses among them as among the others.
"""

import os
import random
import re
import time
from itertools import islice
from types import SimpleNamespace

import pytest

from support.articles import Articles, Registrar, articles_stack, assert_dead_letters, assert_table, is_proven
from support.debezium import Debezium
from support.faults import Faults, environment_number
from support.proxies import ServiceProxy
from support.stack import producing, wait

SEED = environment_number("FAULTS_SEED", int(time.time()))
SHORT = 3
# A worker that begins while the registry is away has no schema yet.
FAULTS = (
    "kill worker", "kill taskmanager", "freeze postgres", "service failing", "service cut",
    "kill registry and kill worker",
)  # fmt: skip
CHOSEN = [name for name in FAULTS if re.search(os.environ.get("FAULTS_ONLY", ""), name)]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(environment_number("FAULTS_COUNT", SHORT) <= SHORT, reason="make faults runs it"),
    pytest.mark.skipif(not CHOSEN, reason="FAULTS_ONLY leaves none of its faults"),
]


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """With a job whose way to the embedding service leads over `stack.proxy`."""
    with (
        articles_stack(tmp_path, monkeypatch, "--no-job", EMBEDDING_SERVICE_TIMEOUT="3") as stack,
        ServiceProxy(stack.settings.embedding_service_url) as stack.proxy,
    ):
        stack.environment["EMBEDDING_SERVICE_URL"] = stack.proxy.url
        stack.command("submit", timeout=240)
        yield stack


def test_no_row_is_lost_and_none_is_stale_over_avro_and_chunks(stack, say):
    chance = random.Random(SEED)
    articles = Articles(Debezium(Registrar(stack)), SEED)
    faults = Faults(stack, stack.proxy, None, None, SimpleNamespace(names=()))
    stack.produce(articles.snapshot(40))
    changes = articles.changes()
    for number, names in enumerate(chance.sample(CHOSEN, len(CHOSEN))):
        if number == len(CHOSEN) // 2:
            wait(lambda: stack.parts()["registry"]["state"] == "ready", 90, "the registry")
            articles.add_author()
        began = time.monotonic()
        with producing(stack, (list(islice(changes, 20)) for _ in range(15)), pause=0.2):
            time.sleep(chance.uniform(0, 1.5))
            for name in names.split(" and "):
                faults.inject(name)
        stack.wait_until_done(240)
        assert_table(stack, articles.documents)
        say(f"{names:30} load and recovery in {time.monotonic() - began:5.1f} s (seed {SEED})")
    stack.produce(articles.truncate())
    stack.wait_until_done()
    assert_dead_letters(stack, articles.dead)
    wait(lambda: is_proven(stack), 60, f"the proof of the audit (seed {SEED})")
