"""Proxies that stand between the job and a real part, and break what passes through them."""

import base64
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np

POISON = "poison"


class ServiceProxy:
    """Forwards to a real embedding service; `mode` says how it breaks the answers of `POST /generate`.

    Whatever the mode, a request with a text that contains `POISON` ends in a 500.
    """

    MODES = ("busy", "failing", "garbage", "few", "nan", "dimension", "slow", "cut")

    def __init__(self, target):
        self.mode = None
        self.poisoned = 0
        self._client = httpx.Client(base_url=target, timeout=30, trust_env=False)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    @contextmanager
    def breaking(self, mode):
        self.mode = mode
        try:
            yield
        finally:
            self.mode = None

    def answer(self, method, path, body):
        """Status, headers and body; None to close the connection without one."""
        mode = self.mode if path == "/generate" else None
        if mode == "busy":
            return 429, {"Retry-After": "1"}, b'{"error": {"code": "busy", "message": "busy", "index": null}}'
        if mode == "failing" or POISON.encode() in body:
            self.poisoned += mode is None
            return 500, {}, b"<h1>Internal Server Error</h1>"
        if mode == "garbage":
            return 200, {}, b'{"embeddings": [[oops'
        try:
            answer = self._client.request(method, path, content=body, headers={"Content-Type": "application/json"})
        except httpx.HTTPError:
            return None
        kept = {name: value for name, value in answer.headers.items() if name.lower() == "retry-after"}
        content = self._spoiled(mode, answer.content) if answer.is_success else answer.content
        return answer.status_code, kept, content

    def _spoiled(self, mode, content):
        if mode not in ("few", "nan", "dimension"):
            return content
        body = json.loads(content)
        rows = (
            np.frombuffer(base64.b64decode(body["embeddings"]), "<f4").reshape(-1, body["embedding_dimension"]).copy()
        )
        if mode == "nan":
            rows[-1, 0] = np.nan
        rows = {"few": rows[:-1], "dimension": rows[:, :-1], "nan": rows}[mode]
        return json.dumps({**body, "embeddings": base64.b64encode(rows.tobytes()).decode()}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._pass(b"")

    def do_POST(self):
        self._pass(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass(self, body):
        answer = self.server.proxy.answer(self.command, self.path, body)
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self._write(content, self.server.proxy.mode if self.command == "POST" else None)

    def _write(self, content, mode):
        if mode == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif mode == "slow":
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05 if self.server.proxy.mode == "slow" else 0)
        else:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


class TcpProxy:
    """Forwards connections to a port of this machine, and cuts them when told to."""

    def __init__(self, port):
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open = set()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()
        self.cut()

    def cut(self):
        """Reset every connection, in whatever its ends were doing; returns how many there were."""
        with self._lock:
            cut, self._open = self._open, set()
        for end in cut:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        return len(cut) // 2

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        for ends in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, sink):
        with suppress(OSError, ValueError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(end)
            end.close()
