"""Submission to a stock Flink that shares nothing with ours but the machine: no connector, another Python, a proxy."""

import os
import shutil
import ssl
import subprocess
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import SecretStr

from embedstream import kafka, store
from embedstream.doctor import examine
from embedstream.errors import ConfigError
from embedstream.flink import Cluster
from embedstream.kafka import Outgoing
from embedstream.service.engine.model import FAKE
from embedstream.submit import submit
from support.flink import other_python, stock_cluster
from support.service import running_service
from support.stack import wait

AUTHORIZATION = "Bearer of-the-proxy"
# Starting a cluster and submitting takes a minute, and much more where other work has the machine.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def with_tls(listener, certificate):
    """As a server that shows a certificate which only those trust who are told to."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", certificate.with_suffix(".key"), "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context.wrap_socket(listener, server_side=True)


@contextmanager
def gateway(target, directory):
    """A proxy with https (where OpenSSL is installed), a path and a key, which takes no body without its length; yields
    address and authority.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers["Authorization"] != AUTHORIZATION or not self.path.startswith("/flink/"):
                return self.answer(401, b"", "")
            answer = httpx.request(
                self.command, target + self.path.removeprefix("/flink"), content=body, trust_env=False, timeout=120,
                headers={"Content-Type": self.headers.get("Content-Type", "")},
            )  # fmt: skip
            return self.answer(answer.status_code, answer.content, answer.headers.get("Content-Type", ""))

        do_POST = do_PATCH = do_GET  # noqa: N815

        def answer(self, status, content, kind):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    scheme, certificate = "http", None
    if shutil.which("openssl"):
        scheme, certificate = "https", directory / "certificate.pem"
        server.socket = with_tls(server.socket, certificate)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{scheme}://localhost:{server.server_port}/flink", certificate
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address and authority of the proxy before a stock cluster."""
    directory = tmp_path_factory.mktemp("flink")
    with stock_cluster(directory) as url, gateway(url, tmp_path_factory.mktemp("gateway")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The workers': of `make e2e-flink` one with packages of its own, else this one's packages under another path."""
    own = os.environ.get("FLINK_WORKERS_PYTHON")
    return own or str(other_python(tmp_path_factory.mktemp("other") / "python"))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A service without a model: it is not what this is about."""
    with running_service(tmp_path_factory.mktemp("vectors"), f"{FAKE}8") as service:
        yield service.url


@pytest.fixture
def abroad(database, kafka, vectors, cluster, python, monkeypatch):
    for name in ("FLINK_CONF_DIR", "FLINK_LIB_DIR", "FLINK_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)
    name = uuid.uuid4().hex[:8]
    return database.model_copy(
        update={
            "kafka_bootstrap_servers": kafka, "kafka_input_topic": f"in-{name}", "kafka_group_id": f"group-{name}",
            "kafka_dead_letter_topic": f"dead-{name}", "embedding_service_url": vectors,
            "flink_rest_url": cluster[0], "flink_rest_ca_location": cluster[1], "flink_python": python,
            "flink_checkpoint_interval_ms": 1000, "flink_rest_authorization": SecretStr(AUTHORIZATION),
        }
    )  # fmt: skip


def has_row(settings, id):
    with store.connect(settings) as connection:
        query = "SELECT count(*) FROM text_message_embeddings WHERE id = %s"
        return connection.execute(query, [id]).fetchone() == (1,)


def send(settings, id):
    kafka.produce(settings, settings.kafka_input_topic, [Outgoing(f'{{"id": "{id}", "text": "hello"}}'.encode())])


def findings(settings):
    return {finding.check: finding for finding in examine(settings) if finding.check.startswith("flink.")}


def test_from_a_stock_cluster_to_rows_and_back_to_the_old_job(abroad):
    before = findings(abroad)
    assert before["flink.connector"].fact.startswith("submit ships ")
    assert "flink-sql-connector-kafka-5.0.0-2.2" in before["flink.connector"].fact
    assert (before["flink.python"].state, before["flink.python"].fact[:9]) == ("skipped", "not known")
    assert not [finding for finding in before.values() if finding.state == "FAIL"]

    job = submit(abroad, print, timeout=300)
    send(abroad, "first")
    wait(lambda: has_row(abroad, "first"), 120, "the first row")
    assert findings(abroad)["flink.python"].state == "ok"

    larger = abroad.model_copy(update={"flink_parallelism": 3})
    with pytest.raises(ConfigError, match=r"^the cluster has 2 slots, but FLINK_PARALLELISM is 3"):
        submit(larger, print, replace=True)
    assert Cluster(abroad).job("embedstream") == job

    wrong = abroad.model_copy(update={"flink_python": "/no/such/python", "kafka_group_id": "another"})
    with pytest.raises(ConfigError, match=r'"/no/such/python".*FLINK_PYTHON is to name .*; the old job runs again'):
        submit(wrong, print, replace=True, timeout=20)
    again = Cluster(abroad).job("embedstream")
    assert again.id != job.id
    assert Cluster(abroad).settings_of(again)["KAFKA_GROUP_ID"] == abroad.kafka_group_id
    send(abroad, "second")
    wait(lambda: has_row(abroad, "second"), 120, "the second row")
