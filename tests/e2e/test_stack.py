"""The promise on real parts: the table equals the topic."""

import json
import time
import uuid
from contextlib import contextmanager

import httpx
import psutil
import pytest

from embedstream.kafka import Outgoing
from support.check import assert_table_equals_topic
from support.stack import producing, suspended, wait
from support.threads import repeated
from support.traffic import Traffic, read_topic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_the_table_equals_the_topic_whatever_the_traffic(stack):
    before = stack.restarts()
    traffic = Traffic(seed=int(time.time()), ids=400, start_ms=int(time.time() * 1000) - 600_000)
    stack.produce(traffic.oddities() + traffic.records(2000))
    stack.wait_until_done()
    rows, deleted, dead = assert_table_equals_topic(stack)
    assert len(rows) > 200
    assert deleted
    assert len(set(dead.values())) > 8
    assert stack.restarts() == before
    assert stack.query("SELECT truncated, token_count > 39000 FROM text_message_embeddings WHERE id = 'huge'") == [
        (True, True)
    ]


@contextmanager
def reading_own_writes(stack):
    """Send a message, wait for its record in the console's search, and look: whether each was found."""
    url = f"{stack.parts()['console']['address']}/v1/search"
    found = []

    def work():
        id = f"user-{uuid.uuid4().hex}"
        partition, offset = stack.place_of({"id": id, "text": f"A note of mine, {id}."})
        body = {"query": id, "mode": "keyword", "wait_for": {partition: offset}, "timeout": 60}
        answer = httpx.post(url, json=body, timeout=90)
        found.append(answer.is_success and [hit["id"] for hit in answer.json()["hits"]] == [id])

    with repeated(work):
        yield found


def load(stack, traffic, batches=15):
    """A hundred messages every 0.7 s in the background; all are sent when the block ends."""
    return producing(stack, (traffic.records(100) for _ in range(batches)), pause=0.7)


def test_killed_workers_lose_nothing(stack):
    """kill -9 of a Python worker, and of the TaskManager, while messages come, and somebody waits for his own."""
    traffic = Traffic(seed=7, ids=300, start_ms=int(time.time() * 1000) - 300_000)
    with reading_own_writes(stack) as found, load(stack, traffic):
        time.sleep(3)
        stack.python_workers()[0].kill()
        time.sleep(4)
        orphans = stack.python_workers()
        task_manager = stack.kill("taskmanager")
    wait(lambda: stack.parts()["taskmanager"]["pid"] not in (None, task_manager), 60, "a new TaskManager")
    stack.wait_until_done()
    assert len(found) > 2
    assert set(found) == {True}
    assert_table_equals_topic(stack)
    assert not [worker for worker in orphans if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("part", ["service", "postgres"])
def test_an_outage_is_waited_out_without_a_restart(stack, part):
    job, exceptions = stack.restarts()
    before = waited(stack)
    with load(stack, Traffic(seed=9, ids=300, start_ms=int(time.time() * 1000) - 300_000), batches=8):
        time.sleep(1)
        stack.kill(part)
    stack.wait_until_done()
    assert_table_equals_topic(stack)
    assert stack.restarts() == (job, exceptions)
    wait(lambda: waited(stack) > before, 30, "the wait in the metrics")


def test_the_status_of_a_job_at_work_and_of_one_that_waits(stack):
    wait(lambda: stack.status()["health"] == {"state": "healthy", "reasons": []}, 60, "a healthy pipeline")
    stack.place_of({"id": f"user-{uuid.uuid4().hex}", "text": "No other test has a newer version of this."})
    wait(lambda: (stack.status()["latency_ms"] or {}).get("p50", 0) > 0, 30, "a latency")
    with suspended(stack.processes_of("service")):
        stack.produce(Traffic(seed=14, ids=50, start_ms=int(time.time() * 1000)).records(50))
        wait(lambda: stack.status()["waits_for"] == ["service"], 60, "a job that waits for the service")
        found = stack.status()
    assert found["health"]["state"] == "degraded"
    assert found["lag"] > 0
    assert found["oldest_unread_seconds"] > 0
    stack.wait_until_done()
    assert_table_equals_topic(stack)


def waited(stack):
    return (stack.status()["counts"] or {}).get("waited_ms", 0)


def test_commands_as_a_user_types_them(stack):
    texts = {"user-1": "Flink streaming for embeddings", "user-2": "A cat sleeps."}
    lines = "".join(
        json.dumps({"id": id, "text": text, "metadata": {"by": "user"}}) + "\n" for id, text in texts.items()
    )
    sent = stack.command("send", "--json", input=lines)
    assert json.loads(sent.stdout)["sent"] == 2
    rows = "SELECT count(*) FROM text_message_embeddings WHERE id = ANY(%s)"
    wait(lambda: stack.query(rows, list(texts)) == [(2,)], 20, "rows")
    hits = json.loads(stack.command("search", "stream processing", "--where", "by=user", "--json").stdout)
    assert [hit["id"] for hit in hits] == ["user-1", "user-2"]
    stack.command("send", "--delete", "user-1", "--delete", "user-2")
    wait(lambda: stack.query(rows, list(texts)) == [(0,)], 20, "deletes")
    assert stack.status()["job"] == "RUNNING"


def test_a_replayed_dead_letter_dies_again_and_is_stored_once_it_is_mended(stack):
    stack.produce([Outgoing(b'{"text": "Mend me.", "timestamp": "yesterday"}', b"user-3")])
    first = letters(stack, b"user-3", 1)[0]
    assert replayed(stack, first)["sent"] == 1
    second = letters(stack, b"user-3", 2)[1]
    assert [dict(letter.headers()).get("dlq.attempts") for letter in (first, second)] == [b"1", b"2"]
    again = replayed(stack, first)
    assert (again["sent"], again["already_replayed"]) == (0, 1)
    assert replayed(stack, second, "--set", "timestamp=2026-01-01T00:00:00Z")["sent"] == 1
    row = "SELECT text FROM text_message_embeddings WHERE id = 'user-3'"
    wait(lambda: stack.query(row) == [("Mend me.",)], 20, "the row")
    assert len(letters(stack, b"user-3", 2)) == 2
    stack.command("send", "--delete", "user-3")
    wait(lambda: stack.query(row) == [], 20, "the delete")


def letters(stack, key, number):
    """The dead letters of a key, the oldest first, once there are so many."""
    settings = stack.settings
    found = []

    def look():
        records = read_topic(settings.kafka_bootstrap_servers, settings.kafka_dead_letter_topic)
        found[:] = sorted((record for record in records if record.key() == key), key=lambda each: each.timestamp())
        return len(found) >= number

    wait(look, 30, f"{number} dead letters")
    return found


def replayed(stack, letter, *options):
    place = f"{letter.partition()}:{letter.offset()}"
    return json.loads(stack.command("dead-letters", "replay", place, "--json", *options).stdout)


def test_submitting_again_changes_nothing_and_replacing_goes_on_where_the_old_job_was(stack):
    stack.produce(Traffic(seed=11, ids=20, start_ms=int(time.time() * 1000)).records(20))
    stack.wait_until_done()
    job = stack.job()
    assert "runs already" in stack.command("submit").stdout
    assert stack.job().id == job.id
    assert f"stopped job {job.name} with savepoint" in stack.command("submit", "--replace", timeout=120).stdout
    assert stack.job().id != job.id
    assert records_read(stack) == 0
    stack.produce(Traffic(seed=12, ids=20, start_ms=int(time.time() * 1000)).records(5))
    wait(lambda: records_read(stack) == 5, 20, "five records to be read")


def records_read(stack):
    """What the sources of the job that runs now have read, once they report it."""
    url = f"{stack.settings.flink_rest_url}/jobs/{stack.job().id}"
    (vertex,) = httpx.get(url).json()["vertices"]
    name = "Source__KafkaSource-default_catalog_default_database_messages.numRecordsIn"
    metrics = f"{url}/vertices/{vertex['id']}/subtasks/metrics?get={name}&agg=sum"
    wait(lambda: httpx.get(metrics).json(), 30, "the sources' metrics")
    return httpx.get(metrics).json()[0]["sum"]


def test_the_index_is_built_by_itself_and_dropped_by_hand(stack):
    stack.produce(Traffic(seed=15, ids=400, start_ms=int(time.time() * 1000)).records(800))
    stack.wait_until_done()
    assert stack.query("SELECT count(*) FROM text_message_embeddings")[0][0] >= 100
    wait(lambda: stack.status()["index"]["state"] == "valid", 150, "the index")
    assert "built the vector index text_message_embeddings_hnsw" in (stack.directory / "logs" / "stack.log").read_text()
    stack.command("index", "drop")
    facts = json.loads(stack.command("index", "status", "--json").stdout)
    assert (facts["state"], facts["dropped_at"] is not None) == ("none", True)
    stack.command("index", "build")
    assert_table_equals_topic(stack)
