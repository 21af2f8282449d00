"""The tools for agents as a client reaches them: over standard input and output, and over HTTP beside the console."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import anyio
import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from embedstream.local.ports import free_port
from support.mcp import ask, caller, facts, refusal

pytestmark = pytest.mark.timeout(120)

READS = {"describe", "get_message", "list_dead_letters", "search", "status", "where_is"}
WRITES = {"repair", "replay_dead_letters"}
KEYS = {"CONSOLE_API_KEY": "writer", "CONSOLE_READ_KEY": "reader"}
JSON = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
# Nobody listens there.
AWAY = {"PGVECTOR_PORT": "1", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "FLINK_REST_URL": "http://127.0.0.1:1"}


@contextmanager
def console(tmp_path, **environment):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "embedstream.console"],
        env={"PATH": os.environ["PATH"], "CONSOLE_PORT": str(port), "LOG_LEVEL": "WARNING", **AWAY, **environment},
        cwd=tmp_path,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/health")
        yield process, f"{url}/mcp"
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url):
    for _ in range(300):
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(url)


@pytest.fixture(scope="module")
def open_url(tmp_path_factory):
    with console(tmp_path_factory.mktemp("open"), MCP_WRITE="1") as (_, url):
        yield url


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with console(tmp_path_factory.mktemp("keys"), MCP_WRITE="1", **KEYS) as (_, url):
        yield url


def post(url, body=LIST, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url, json=body, headers=JSON | names)


def offered(url, mode="auto", key=None):
    async def run():
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            return client.protocol_version, {tool.name for tool in (await client.list_tools()).tools}

    return anyio.run(run)


@pytest.fixture
def stdio(tmp_path):
    return StdioServerParameters(
        command=sys.executable, args=["-m", "embedstream", "mcp"], cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **AWAY},
    )  # fmt: skip


def test_over_standard_input_and_output(stdio):
    async def question(client):
        tools = await client.list_tools()
        return {tool.name for tool in tools.tools}, await client.call_tool("describe", {})

    names, answer = ask(stdio, question)
    assert names == READS
    assert "PostgreSQL" in facts(answer)["tables"][0]["trouble"]
    assert "PostgreSQL" in refusal(caller(stdio)("get_message", id="a"))


def test_nothing_but_the_protocol_is_on_standard_output_and_the_log_is_json(stdio):
    messages = [
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "status", "arguments": {}}},
    ]  # fmt: skip
    process = subprocess.Popen(
        [stdio.command, *stdio.args], env=stdio.env, cwd=stdio.cwd, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for message in messages:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    out, log = process.communicate(timeout=30)
    assert [line["id"] for line in lines] == [0, 1]
    assert lines[0]["result"]["protocolVersion"] == "2025-06-18"
    assert (out, process.returncode) == ("", 0)
    assert all(json.loads(line)["level"] for line in log.splitlines())


def test_who_has_no_key_is_told_to_send_one(url):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3JpdGVy"}):
        answer = post(url, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_browser_s_session_opens_the_pages_alone(url):
    with httpx.Client() as browser:
        own = {"Sec-Fetch-Site": "same-origin"}
        answer = browser.post(url.replace("/mcp", "/login"), data={"key": "writer"}, headers=own)
        assert answer.status_code == 302
        assert browser.post(url, json=LIST, headers=JSON).status_code == 401


def test_a_reader_is_offered_what_reads_a_writer_all(url):
    assert offered(url, key="reader") == ("2026-07-28", READS)
    assert offered(url, key="writer") == ("2026-07-28", READS | WRITES)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "repair", "arguments": {}}}
    assert "Unknown tool" in post(url, call, Authorization="Bearer reader").text


def test_clients_of_an_older_protocol_are_answered(open_url):
    version, names = offered(open_url, mode="legacy")
    assert version < "2026"
    assert names == READS | WRITES


def test_a_foreign_host_and_a_foreign_origin_are_refused(open_url, url):
    answer = post(open_url, Host="evil.example")
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host_not_allowed")
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = post(open_url, Origin=origin)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    own = open_url.removesuffix("/mcp")
    assert post(open_url, Origin=own).status_code == 200
    assert post(url, Host="es.example", Authorization="Bearer reader").status_code == 200
    assert post(url, Origin="http://evil.example", Authorization="Bearer reader").status_code == 403


def test_there_are_no_streams_and_no_requests_without_end(open_url):
    answer = httpx.get(open_url, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert httpx.delete(open_url).status_code == 405
    assert httpx.post(open_url, content=b"x" * (5 * 2**20), headers=JSON).status_code == 413
    assert httpx.post(open_url, content=b"no json", headers=JSON).status_code == 400


def test_the_pages_are_as_they_were(open_url):
    page = httpx.get(open_url.replace("/mcp", "/"), headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "Content-Security-Policy" in page.headers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_fast_while_clients_are_connected(tmp_path, number, database, kafka):
    world = {
        "PGVECTOR_HOST": database.pgvector_host, "PGVECTOR_PORT": str(database.pgvector_port),
        "PGVECTOR_DB": database.pgvector_db, "KAFKA_BOOTSTRAP_SERVERS": kafka,
    }  # fmt: skip
    with console(tmp_path, **world) as (process, url), httpx.Client() as client:
        assert client.post(url, json=LIST, headers=JSON).status_code == 200
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 4.5
