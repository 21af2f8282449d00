"""A Prometheus of the test's own, with the configuration of deploy/prometheus, and servers that it scrapes."""

import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import yaml
from werkzeug.serving import make_server

from embedstream.local.ports import LOOPBACK, free_port
from support.stack import wait

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
MISSING = "there is no Prometheus here: apt-get install prometheus"
SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
_SCRAPES = 4


def rules():
    """What is alerted on, by the alert's name."""
    [group] = yaml.safe_load((SHIPPED / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


class Asked:
    """A Prometheus that runs."""

    def __init__(self, http):
        self._http = http

    def is_ready(self):
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def values(self, query):
        """The numbers that answer a query now."""
        answer = self._http.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        return [float(each["value"][1]) for each in answer["data"]["result"]]

    def has_scraped(self, jobs):
        return len(self.values(f"count_over_time(up[5m]) >= {_SCRAPES} and up == 1")) == jobs

    def told(self):
        targets = self._http.get("/api/v1/targets").json()["data"]["activeTargets"]
        return [(each["labels"]["job"], each["health"], each["lastError"]) for each in targets]


@contextmanager
def prometheus(directory, addresses, keys):
    """With the address and the key of each job."""
    port = free_port()
    command = [
        PROMETHEUS, f"--config.file={_configuration(directory, addresses, keys)}",
        f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={LOOPBACK}:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", trust_env=False) as http:
            asked = Asked(http)
            wait(lambda: _is_ready(asked, process, directory), 30, "Prometheus")
            yield asked
    finally:
        process.terminate()
        process.wait()


def _is_ready(asked, process, directory):
    assert process.poll() is None, (directory / "prometheus.log").read_text()
    return asked.is_ready()


def _configuration(directory, addresses, keys):
    """The shipped one, with what the test has in the place of the stack's names, and in a hurry."""
    config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        name = job["job_name"]
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [addresses[name].removeprefix("http://")]}]
        if "authorization" in job:
            (directory / name).write_text(f"{keys.get(name, '')}\n")
            job["authorization"] = {"credentials_file": str(directory / name)}
    shutil.copy(SHIPPED / "rules.yml", directory)
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def served(app):
    """Its address."""
    with _running(make_server(LOOPBACK, 0, app, threaded=True)) as address:
        yield address


@contextmanager
def told(metrics):
    """Answers every request with the text that `metrics` returns then."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = metrics()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with _running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as address:
        yield address


@contextmanager
def _running(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
