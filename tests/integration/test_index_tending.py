import os
import subprocess
import sys
import threading
import time

import pytest

from embedstream import store
from embedstream.index import tend
from embedstream.index.build import build, drop
from embedstream.kafka import Position
from support.index import BY_HAND, NAME, end_backend, held_build, look
from support.stack import wait

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def lag(monkeypatch):
    lags = [0]
    monkeypatch.setattr(tend.kafka, "positions", lambda settings: [Position(0, 0, lag, 0) for lag in lags])
    return lags


def tended(settings, **changes):
    settings = settings.model_copy(update={"index_min_rows": 2000, **changes})
    tend.tend(settings)
    return look(settings)


def test_it_is_built_by_itself_once_the_table_is_large_and_the_backlog_gone(filled, lag):
    assert tended(filled, index_min_rows=2001).state == "none"
    assert tended(filled, index="off").state == "none"
    lag[:] = [600, 401]
    assert tended(filled).state == "none"
    lag[:] = [600, 400]
    assert tended(filled).state == "valid"


def test_an_index_that_was_dropped_by_hand_stays_away_until_a_backlog_has_come_and_gone(filled, lag):
    build(filled)
    drop(filled)
    assert tended(filled).state == "none"
    assert look(filled).dropped_at
    lag[:] = [5000]
    assert tended(filled).dropped_at is None
    lag[:] = [0]
    assert tended(filled).state == "valid"


def test_tending_mends_an_invalid_index_even_of_a_small_table(filled, lag):
    with held_build(filled) as failures:
        end_backend(filled, failures)
    assert look(filled).state == "invalid"
    assert tended(filled, index_min_rows=10_000).state == "valid"


def test_tending_stops_when_it_is_told_to_and_tells_trouble_once(filled, lag, monkeypatch):
    monkeypatch.setattr(tend, "LOOK_SECONDS", 0.01)
    lines = []
    stopping = threading.Event()
    away = filled.model_copy(update={"pgvector_port": 1})
    with tend.in_background(away, lines.append, stopping):
        wait(lambda: lines, 30, "trouble to be told")
        time.sleep(0.2)
    assert len(lines) == 1
    assert "check PGVECTOR_*" in lines[0]
    with tend.in_background(filled.model_copy(update={"index_min_rows": 10}), lines.append, threading.Event()):
        wait(lambda: look(filled).state == "valid", 60, "the index")
        wait(lambda: f"built the vector index {NAME}" in lines, 10, "the line")


def test_a_build_by_hand_is_seen(filled, lag):
    with store.connect(filled) as connection, connection.transaction():
        connection.execute(BY_HAND.format("other").encode())
        assert look(filled).state == "building"
        assert tended(filled).state == "building"
    assert tended(filled).name == "other"


def test_before_there_is_a_table_there_is_nothing_to_do(database):
    tend.tend(database)


def test_the_follower_of_the_job_tends_the_index_and_ends_a_build_when_it_is_stopped(filled, kafka):
    settings = filled.model_copy(
        update={"kafka_bootstrap_servers": kafka, "flink_rest_url": "http://127.0.0.1:1", "index_min_rows": 2000}
    )
    with store.connect(filled) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        command = [sys.executable, "-m", "embedstream", "submit", "--follow"]
        follower = subprocess.Popen(command, env={**os.environ, **settings.to_env()}, stdout=subprocess.PIPE, text=True)
        wait(lambda: (look(filled).phase or "").endswith("old snapshots"), 90, "the build to wait")
        follower.terminate()
        said, _ = follower.communicate(timeout=30)
        assert follower.returncode == 0
        assert "building the vector index of table text_message_embeddings" in said
        wait(lambda: look(filled).state in ("none", "invalid"), 10, "the build to end")
