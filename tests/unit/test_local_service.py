import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from embedstream.local.service import Service
from embedstream.settings import Settings

DOWNLOADING = {"step": "downloading", "model": "org/name", "trouble": None}


@pytest.fixture
def service(tmp_path):
    """One whose health is what the test says."""

    class Handler(BaseHTTPRequestHandler):
        answer = (503, {})

        def do_GET(self):
            status, body = Handler.answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        settings = Settings(embedding_service_url=f"http://127.0.0.1:{server.server_port}")
        part = Service(settings, {}, tmp_path / "log")

        def asked(status, body):
            Handler.answer = (status, body)
            return part.is_ready(), part.lengthy()

        yield asked
        server.shutdown()


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        ({"step": "loading"}, None),
        (DOWNLOADING, "downloading the model org/name"),
        (DOWNLOADING | {"bytes": 0, "total_bytes": 90_000_000}, "downloading the model org/name (85 MiB)"),
        (DOWNLOADING | {"trouble": "no answer"}, "waiting for the model org/name: no answer"),
        ("nonsense", None),
        (None, None),
    ],
)
def test_a_service_that_downloads_its_model_says_so(service, progress, said):
    assert service(503, {"status": "loading", "progress": progress}) == (False, said)
    assert service(200, {"status": "ready"}) == (True, None)
