"""The console over a real topic, table and service: what its pages and its API say of them, as one process."""

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from embedstream.local.ports import free_port
from embedstream.settings import child_environment, load_settings
from support.audit import filled, own_settings
from support.stack import wait

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def settings(postgres, kafka, service_url):
    """No Flink is there; the table's vectors are those that tests make up, of another model than the service's."""
    with postgres.fresh_database() as name:
        database = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        changes = {"console_port": free_port(), "embedding_service_url": service_url}
        changes |= {"flink_rest_url": f"http://127.0.0.1:{free_port()}"}
        settings = own_settings(database, kafka).model_copy(update=changes)
        filled(settings)
        yield settings


class Process:
    def __init__(self, settings):
        self.address = f"http://127.0.0.1:{settings.console_port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedstream.console"], env=child_environment(settings),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.said = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        self.said.extend(self.process.stdout)

    def is_up(self):
        assert self.process.poll() is None, "".join(self.said)
        try:
            return httpx.get(f"{self.address}/health").is_success
        except httpx.HTTPError:
            return False

    def get(self, path, **query):
        return httpx.get(self.address + path, params=query, timeout=30)

    def search(self, **body):
        return httpx.post(f"{self.address}/v1/search", json=body, timeout=30)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.reader.join(10)
        self.process.stdout.close()
        return self.process.returncode


@pytest.fixture(scope="module")
def console(settings):
    process = Process(settings)
    wait(process.is_up, 120, "the console")
    yield process
    process.end()


def has(console, path, words, **query):
    wait(lambda: words in console.get(path, **query).text, 30, f"{words} in {path}")


def test_every_page_tells_of_the_real_parts(console):
    has(console, "/parts/overview", "<dt>rows</dt><dd>", pipeline="embedstream")
    has(console, "/", "Down")  # no Flink here
    has(console, "/parts/message", "second 0", id="id-0")
    has(console, "/parts/message", "superseded", id="id-0")
    has(console, "/parts/message", "Nothing is known of nobody", id="nobody")
    has(console, "/parts/doctor", "All checks")
    assert "<mark>second</mark> 0" in console.get("/search", q="second", mode="keyword").text


def test_the_api_answers_as_of_which_offsets(console):
    answer = console.search(query="second", mode="keyword", k=3).json()
    assert answer["hits"]
    assert all("second" in hit["text"] for hit in answer["hits"])
    places = {place: offset for place, offset in answer["as_of"].items() if offset}
    reached = console.search(query="second", mode="keyword", wait_for={p: o - 1 for p, o in places.items()}, timeout=0)
    assert reached.status_code == 200
    late = console.search(query="second", mode="keyword", wait_for=places, timeout=0.1)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "not_reached")


@pytest.mark.parametrize(
    "body",
    [
        {"vector": [1e39] * 4},
        {"vector": [0.0] * 4},
        {"vector": [1.0] * 5},
        {"query": "\u0000", "mode": "keyword"},
        {"query": "x", "mode": "keyword", "where": {"field": "metadata.n", "op": "gt", "value": 10**400}},
        {"query": "x", "mode": "keyword", "where": {"field": "id", "value": "\u0000"}},
        {"id": "\ud800"},
        {"query": "x", "mode": "keyword", "after": "0001-01-01T00:00:00Z", "before": "9999-12-31T23:59:59+23:59"},
        {"query": "x", "mode": "keyword", "wait_for": {"4294967296": 10**30}, "timeout": 0},
    ],
    ids=lambda body: next(iter(body)),
)
def test_whatever_is_asked_the_answer_is_no_error_of_the_console(console, body):
    content = json.dumps(body)
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{console.address}/v1/search", content=content, headers=headers, timeout=30)
    assert answer.status_code in {200, 400, 503}, answer.text


def test_fifty_at_once_are_all_answered(console):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: console.search(query="second", mode="keyword"), range(200)))
    assert {answer.status_code for answer in answers} == {200}


def test_it_stops_when_told_and_says_nothing_of_itself(settings):
    process = Process(settings.model_copy(update={"console_port": free_port()}))
    wait(process.is_up, 120, "the console")
    process.get("/")
    assert process.end() == 0
    assert [json.loads(line)["level"] for line in process.said] == ["INFO"]


def test_a_port_that_is_taken_is_said(console, settings):
    second = Process(settings)
    assert second.process.wait(120) == 2
    second.end()
    assert "set CONSOLE_PORT" in "".join(second.said)
