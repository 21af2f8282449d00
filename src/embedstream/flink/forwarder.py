"""A loopback address that leads to FLINK_REST_URL, for Flink's command line.

For https `flink run` wants a Java truststore, and headers it takes only from its environment; it also sends a job in
pieces of no stated length, which not every proxy takes. So it talks to this, and this to the cluster, in the way in
which the rest of the package does.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

import httpx

from embedstream.flink import rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

KEY_HEADER = "X-Embedstream-Key"
_LOOPBACK = "127.0.0.1"
_IN_MEMORY = 2**20
_CHUNK = 2**16
# A job and its jars go through a slow link in this time.
_TIMEOUT = 300.0
_PASSED_ON = ("Accept", "Content-Type")


@contextmanager
def forwarder(settings: Settings) -> Iterator[tuple[str, int, str]]:
    """Host, port, and the key that has to stand in `KEY_HEADER`: other users of this machine have no business there."""
    with rest.client(settings, _TIMEOUT) as upstream:
        server = _Server(upstream)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="flink-forwarder", daemon=True)
        thread.start()
        try:
            yield _LOOPBACK, server.server_port, server.key
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: httpx.Client) -> None:
        super().__init__((_LOOPBACK, 0), _Handler)
        self.upstream = upstream
        self.key = secrets.token_urlsafe(32)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        with SpooledTemporaryFile(_IN_MEMORY) as body:
            self._read(body)
            if not secrets.compare_digest(self.headers.get(KEY_HEADER, ""), self.server.key):
                return self._answer(403, b"", "text/plain")
            return self._forward(body)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 - names that http.server looks for

    def _read(self, body: IO[bytes]) -> None:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            self._copy(int(self.headers.get("Content-Length") or 0), body)
            return
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            self._copy(size, body)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _copy(self, size: int, body: IO[bytes]) -> None:
        while size > 0 and (data := self.rfile.read(min(size, _CHUNK))):
            body.write(data)
            size -= len(data)

    def _forward(self, body: IO[bytes]) -> None:
        size = body.tell()
        body.seek(0)
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        # With its length and in one piece, which every proxy takes.
        headers["Content-Length"] = str(size)
        try:
            answer = self.server.upstream.request(self.command, self.path, content=body, headers=headers)
        except httpx.HTTPError as exc:
            self._answer(502, f"{type(exc).__name__}: {exc}".encode(), "text/plain")
            return
        self._answer(answer.status_code, answer.content, answer.headers.get("Content-Type", ""))

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
