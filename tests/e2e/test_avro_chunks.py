"""Debezium's change events in Avro, by a real registry, into a table of chunks, whatever is killed meanwhile, and while
it goes to another model.
"""

import json
import time
from contextlib import suppress
from itertools import islice

import psutil
import pytest

from support.articles import (
    Articles,
    Registrar,
    articles_stack,
    assert_dead_letters,
    assert_table,
    assert_vectors,
    is_proven,
)
from support.debezium import Debezium
from support.service import running_service
from support.stack import producing, wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
def stack(tmp_path, monkeypatch):
    with articles_stack(tmp_path, monkeypatch) as stack:
        yield stack


@pytest.fixture
def other(tmp_path):
    with running_service(tmp_path, "fake:24") as service:
        yield service


def batches(articles, count, size, then=lambda: None):
    changes = articles.changes()
    for number in range(count):
        if number == count // 2:
            then()
        yield list(islice(changes, size))


def test_the_chunks_are_those_of_the_rows_whatever_is_killed(stack, other):
    registrar, seed = Registrar(stack), time.time_ns()
    articles = Articles(Debezium(registrar), seed)
    stack.produce(articles.snapshot(40))
    wait(lambda: stack.query("SELECT count(*) FROM articles_documents")[0][0] > 0, 60, "the first documents")
    with producing(stack, batches(articles, 30, 12, articles.add_author), pause=0.3):
        time.sleep(1.5)
        with suppress(psutil.NoSuchProcess):
            stack.python_workers()[0].kill()
        time.sleep(5)
        killed = stack.kill("taskmanager")
    assert len(set(registrar.ids)) == 3
    wait(lambda: stack.parts()["taskmanager"]["pid"] not in (None, killed), 60, "a new TaskManager")
    with producing(stack, batches(articles, 12, 12), pause=0.3):
        stack.command("migrate", "start", "--service", other.url, "--share", "0.5", timeout=90)
        assert json.loads(stack.command("migrate", "cut-over", "--json").stdout)["space"].startswith("fake:24")
    stack.produce([*articles.truncate(), *islice(articles.changes(), 30)])
    stack.wait_until_done()
    assert_table(stack, articles.documents)
    assert_dead_letters(stack, articles.dead)
    assert min(articles.dead[code] for code in ("not_framed", "bad_avro", "text_blank", "truncate")) > 0
    assert_vectors(stack, other.url)
    wait(lambda: is_proven(stack), 60, f"the proof of the audit (seed {seed})")
