import base64
import errno
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import numpy as np
import psutil
import pytest

from embedstream.local.ports import LOOPBACK, free_port
from support.dribble import dribbling
from support.service import MINILM, running_service, started_service
from support.stack import wait


@pytest.fixture
def client(service_url):
    with httpx.Client(base_url=service_url, timeout=50, trust_env=False) as client:
        yield client


def run_service(**environment):
    return subprocess.run(
        [sys.executable, "-m", "embedstream.service"],
        env={**os.environ, "EMBEDDING_MODEL": "fake:4", "EMBEDDING_HOST": LOOPBACK, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_health_has_what_a_table_is_pinned_to(client):
    assert client.get("/health").json() == {
        "status": "ready",
        "model_name": MINILM,
        "model_revision": "264fd352e252",
        "embedding_dimension": 384,
        "normalised": True,
        "max_tokens": 256,
        "engine": "openvino",
        "precision": "f32",
        "fidelity": 1.0,
        "hub_commit": None,
        "batch_tokens": 768,
        "warnings": [],
        "queue_texts": 0,
    }


def test_one_text(client):
    answer = client.post("/generate", json={"text": "Where is my parcel?", "id": 7, "metadata": {"a": 1}}).json()
    assert (answer["id"], answer["metadata"], answer["token_count"], answer["truncated"]) == (7, {"a": 1}, 7, False)
    assert len(answer["embedding"]) == answer["embedding_dimension"] == 384


def test_all_forms_give_the_same_numbers(client):
    texts = ["Where is my parcel?", "🎉 naïve", "word " * 300, "a\x00b"]
    floats = client.post("/generate", json={"texts": texts}).json()
    block = client.post("/generate", json={"texts": texts, "encoding_format": "base64"}).json()
    rows = np.frombuffer(base64.b64decode(block.pop("embeddings")), "<f4").reshape(-1, 384)
    assert np.array_equal(np.float32(floats.pop("embeddings")), rows)
    assert floats == block
    assert block["truncated"] == [False, False, True, False]
    alone = [client.post("/generate", json={"text": text}).json()["embedding"] for text in texts]
    assert np.abs(np.float32(alone) - rows).max() < 1e-6


def test_512_texts_in_one_request(client):
    texts = [f"message {number}" for number in range(512)]
    answer = client.post("/generate", json={"texts": texts, "encoding_format": "base64"}).json()
    rows = np.frombuffer(base64.b64decode(answer["embeddings"]), "<f4").reshape(512, 384)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert len(np.unique(rows, axis=0)) == 512


def test_a_huge_text_does_not_keep_others_waiting(client, service_url):
    def huge():
        return httpx.post(f"{service_url}/generate", json={"text": "word " * 200_000}, timeout=50, trust_env=False)

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(huge) for _ in range(4)]
        slowest = 0.0
        while not all(future.done() for future in futures):
            started = time.monotonic()
            assert client.post("/generate", json={"text": "hello"}).status_code == 200
            slowest = max(slowest, time.monotonic() - started)
    assert [future.result().json()["token_count"] for future in futures] == [200_002] * 4
    assert slowest < 1.0


def test_a_large_body_gets_its_answer_though_nobody_wants_it(client):
    large = b'{"text": "' + b"x" * 20_000_000 + b'"}'
    headers = {"Content-Type": "application/json"}
    parts = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
    for content in (large, parts):
        response = client.post("/generate", content=content, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "request_entity_too_large")
    assert client.post("/generate", content=large).status_code == 415
    assert client.post("/nothing", content=large).status_code == 404
    assert client.get("/health").is_success


BYTES = [
    b"\x00" * 100,
    b"GET /health\r\n\r\n",
    b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: nonsense\r\n\r\n{}",
    b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
]


def answer_to(connection, sent):
    connection.settimeout(5)
    try:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(4096)
    except OSError as exc:
        if exc.errno not in (errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET):
            raise
        return b""


@pytest.mark.parametrize("sent", BYTES, ids=["zeros", "no version", "bad length", "torn", "bad path"])
def test_bytes_that_are_no_request_do_no_harm(client, service_url, sent):
    url = httpx.URL(service_url)
    with socket.create_connection((url.host, url.port), 5) as connection:
        assert b" 500 " not in answer_to(connection, sent).partition(b"\r\n")[0]
    assert client.post("/generate", json={"text": "still here"}).status_code == 200


def test_it_says_loading_before_it_is_ready(tmp_path):
    with started_service(tmp_path) as service:
        seen = []
        while "ready" not in seen:
            try:
                answer = httpx.get(f"{service.url}/health", timeout=5, trust_env=False)
            except httpx.ConnectError:
                continue
            seen.append(answer.json()["status"])
            assert answer.status_code == (200 if seen[-1] == "ready" else 503)
        assert set(seen) == {"loading", "ready"}
        ready = next(record for record in service.records() if record["message"] == "ready")
    assert (ready["model"], ready["dimension"], ready["port"]) == (MINILM, 384, service.port)
    assert ready["threads"] >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop_it_finishes_what_it_accepted_and_leaves_nothing(tmp_path, number):
    texts = ["a few words about the weather on the island today " * 8] * 64

    def ask():
        return httpx.post(f"{service.url}/generate", json={"texts": texts}, timeout=50, trust_env=False)

    drain = {"EMBEDDING_DRAIN_SECONDS": "40"}
    with running_service(tmp_path, **drain) as service, ThreadPoolExecutor(2) as threads:
        family = service.family()
        futures = [threads.submit(ask) for _ in range(2)]
        wait_for_work(service)
        with httpx.Client(base_url=service.url, trust_env=False) as idle:
            idle.get("/info")
            service.process.send_signal(number)
            wait_for_drain(idle)
            late = idle.post("/generate", json={"text": "late"})
            assert (late.status_code, late.json()["error"]["code"]) == (503, "draining")
        assert service.process.wait(50) == 0
        assert [len(future.result().json()["embeddings"]) for future in futures] == [64, 64]
        assert "drained" in [record["message"] for record in service.records()]
    assert_gone(family)


def wait_for_work(service):
    while httpx.get(f"{service.url}/health", trust_env=False).json()["queue_texts"] < 100:
        pass


def wait_for_drain(client):
    while client.get("/health").json()["status"] == "ready":
        pass


def assert_gone(family):
    deadline = time.monotonic() + 5
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_it_cannot_finish_in_time_is_refused(tmp_path):
    texts = ["word " * 250] * 1500

    def ask():
        return httpx.post(f"{service.url}/generate", json={"texts": texts}, timeout=30, trust_env=False)

    with running_service(tmp_path, EMBEDDING_DRAIN_SECONDS="1") as service, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(ask)
        wait_for_work(service)
        assert service.terminate() == 0
        assert (answer.result().status_code, answer.result().json()["error"]["code"]) == (503, "draining")


def test_a_killed_main_process_leaves_no_orphan(tmp_path):
    with running_service(tmp_path, "fake:4") as service:
        family = service.family()
        assert len(family) == 2
        service.process.kill()
        service.process.wait()
        assert_gone(family)


def test_a_killed_worker_ends_the_service(tmp_path):
    with running_service(tmp_path, "fake:4") as service:
        service.family()[1].kill()
        assert service.process.wait(10) == 1


def test_a_port_in_use_is_said_in_one_line(tmp_path):
    with running_service(tmp_path, "fake:4") as service:
        for host in (LOOPBACK, "localhost", "0.0.0.0"):
            result = run_service(EMBEDDING_PORT=str(service.port), EMBEDDING_HOST=host)
            assert (result.returncode, result.stdout) == (2, "")
            [line] = result.stderr.splitlines()
            assert line.startswith(f"embedstream: cannot listen on {host}:{service.port}")
        assert httpx.get(f"{service.url}/health", trust_env=False).is_success


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"EMBEDDING_MODEL": "./such-model"}, "no model ./such-model"),
        ({"EMBEDDING_MODEL": "fake:x"}, "fake:384"),
        ({"EMBEDDING_HOST": "no.such.host.invalid"}, "no.such.host.invalid"),
        ({"EMBEDDING_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
        ({"EMBEDDING_PORT": "70000"}, "EMBEDDING_PORT"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(environment, said):
    result = run_service(**{"EMBEDDING_PORT": str(free_port()), **environment})
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert said in line


def at_once(service, number, path, body):
    """The answers to requests that are sent at the same time, each on a connection of its own, and when they came."""
    start = threading.Barrier(number)

    def ask(_):
        connection = http.client.HTTPConnection(LOOPBACK, service.port, timeout=60)
        start.wait(60)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read()), connection.close()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(ask, range(number)))


@pytest.mark.parametrize(
    ("number", "path", "body"),
    [
        (300, "/v1/embeddings", {"model": "fake:4", "input": "a short text"}),
        (1000, "/generate", {"text": "a short text"}),
        (100, "/generate", {"texts": ["a short text"] * 80}),
    ],
)
def test_all_are_served_whose_texts_may_wait(tmp_path, number, path, body):
    with running_service(tmp_path, "fake:4") as service:
        for _ in range(2):
            answers = at_once(service, number, path, body)
            assert {status for status, *_ in answers} == {200}
        threads = service.family()[1].num_threads()
        metrics = httpx.get(f"{service.url}/metrics", trust_env=False).text
    assert threads < 120
    assert f'embedding_requests_total{{path="{path}",status="200"}} {2 * number}.0' in metrics
    assert 'status="202"' not in metrics


def test_so_many_requests_may_wait_where_a_number_is_set(tmp_path):
    limits = {"EMBEDDING_MAX_REQUESTS": "2", "EMBEDDING_THREADS": "1", "EMBEDDING_PRECISION": "f32"}
    with running_service(tmp_path, **limits) as service:
        answers = at_once(service, 20, "/generate", {"texts": ["word " * 250] * 10})
        assert httpx.get(f"{service.url}/info", trust_env=False).json()["limits"]["requests"] == 2
    refused = [(headers, body) for status, headers, body, _ in answers if status == 429]
    assert len(refused) + sum(status == 200 for status, *_ in answers) == 20
    assert len(refused) >= 10
    assert all(int(headers["Retry-After"]) >= 1 and body["error"]["code"] == "queue_full" for headers, body in refused)


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 4096, reason="the process may not open so many files"
)
def test_connections_that_are_idle_keep_nobody_out(tmp_path):
    with running_service(tmp_path, "fake:4") as service:
        idle = dribbling(service.port, 1500, b"")
        assert httpx.get(f"{service.url}/health", timeout=30, trust_env=False).is_success
        for connection in idle:
            connection.close()


def test_clients_that_do_not_read_their_answers_keep_nobody_waiting(tmp_path):
    body = json.dumps({"texts": ["word"] * 200}).encode()
    head = (
        f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with running_service(tmp_path, "fake:384") as service, ExitStack() as closing:
        for reader in dribbling(service.port, 100, head.encode() + body):
            closing.callback(reader.close)
        slowest = 0.0
        with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
            # They ask for more texts than may wait: these have to be through before others get in.
            wait(lambda: client.post("/generate", json={"text": "hello"}).is_success, 30, "room for another text")
            for _ in range(50):
                began = time.monotonic()
                assert client.post("/generate", json={"text": "hello"}).is_success
                slowest = max(slowest, time.monotonic() - began)
            assert service.terminate() == 0
    assert slowest < 10
