"""A schema registry of a few lines, and bytes framed as Confluent's serializers frame them."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit
from uuid import UUID

from embedstream.decode.registry import Registry

UNKNOWN = (404, {"error_code": 40403, "message": "Schema not found"})
GUID = UUID("11111111-2222-3333-4444-555555555555")


class StubRegistry:
    """Answers for schemas that were added; `failure` is what it answers instead, `slow` how long it takes."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self.failure = None
        self.slow = 0.0
        self.url = None
        self.clients = []

    def add(self, id, text, kind="AVRO", references=()):
        """`references` are (name, subject, version)."""
        by = "guids" if isinstance(id, UUID) else "ids"
        self.answers[f"/schemas/{by}/{id}"] = self._answer(text, kind, references)

    def add_version(self, subject, version, text, kind="AVRO", references=()):
        self.answers[f"/subjects/{subject}/versions/{version}"] = self._answer(text, kind, references)

    @staticmethod
    def _answer(text, kind, references):
        """As Confluent's: what is Avro, or refers to nothing, does not say so."""
        said = {"schema": text if isinstance(text, str) else json.dumps(text)}
        if kind != "AVRO":
            said["schemaType"] = kind
        if references:
            said["references"] = [dict(zip(("name", "subject", "version"), each, strict=True)) for each in references]
        return 200, said

    def paths(self):
        return [path for path, _ in self.requests]

    def registry(self, directory, access=None, **options):
        self.clients.append(Registry(access or self.url, directory, **options))
        return self.clients[-1]


@contextmanager
def stub_registry():
    stub = StubRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one piece

        def do_GET(self):
            path = urlsplit(self.path).path
            stub.requests.append((path, self.headers.get("Authorization")))
            time.sleep(stub.slow)
            status, body, *headers = stub.failure or stub.answers.get(unquote(path), UNKNOWN)
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield stub
    finally:
        for client in stub.clients:
            client.close()
        server.shutdown()
        server.server_close()
        thread.join()


def framed(id, payload):
    return b"\0" + id.to_bytes(4) + payload


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now
