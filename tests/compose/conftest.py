import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from embedstream.local.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PORTS = (
    "KAFKA_HOST_PORT", "KAFKA_UI_HOST_PORT", "EMBEDDING_SERVICE_HOST_PORT", "PGVECTOR_HOST_PORT", "PGADMIN_HOST_PORT",
    "FLINK_HOST_PORT", "CONSOLE_HOST_PORT",
)  # fmt: skip


class Compose:
    """`docker compose` on the stack under a project name and host ports of its own."""

    def __init__(self, override: Path):
        ports = {}
        for name in PORTS:
            ports[name] = str(free_port(avoid=frozenset(map(int, ports.values()))))
        self.ports = ports
        self.env = {**os.environ, "COMPOSE_PROJECT_NAME": "embedstream-e2e", **ports}
        self.override = override

    def __call__(self, *arguments, stdin="", check=True, timeout=900, env=None):
        files = ["-f", "compose.yaml", *(["-f", str(self.override)] if self.override.exists() else [])]
        done = subprocess.run(
            ["docker", "compose", *files, *arguments],
            cwd=ROOT, env={**self.env, **(env or {})}, input=stdin, capture_output=True, text=True, check=False,
            timeout=timeout,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    def up(self, *arguments, **options):
        return self("up", "--wait", "--detach", *arguments, **options)

    def output(self, *arguments):
        return self(*arguments).stdout

    def logs(self, service):
        return self.output("logs", "--no-log-prefix", service)

    def sql(self, statement):
        arguments = ("psql", "-U", "postgres", "-d", "embeddings_db", "-Atc", statement)
        return self.output("exec", "-T", "pgvector-postgres", *arguments).strip()

    def embedstream(self, *arguments, stdin=""):
        return self("exec", "-T", "flink-submit", "embedstream", *arguments, stdin=stdin).stdout

    def status(self):
        return json.loads(self.embedstream("status", "--json"))

    def set(self, **environment):
        """Settings of the three Flink services, as a compose override would give them; none takes them away."""
        services = ("flink-jobmanager", "flink-taskmanager", "flink-submit")
        facts = {"services": {name: {"environment": environment} for name in services}}
        self.override.write_text(json.dumps(facts))

    def url(self, port, path=""):
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def is_healthy(self):
        """Whether every container is; `up` would give up at once on one that was broken a moment ago."""
        lines = self.output("ps", "--all", "--format", "json").splitlines()
        return all(json.loads(line)["Health"] == "healthy" for line in lines)

    def flink(self, path):
        return httpx.get(self.url("FLINK_HOST_PORT", path), timeout=10).raise_for_status().json()

    def jobs(self):
        """The running jobs, name to id."""
        jobs = self.flink("/jobs/overview")["jobs"]
        running = [job for job in jobs if job["state"] in ("RUNNING", "CREATED", "RESTARTING")]
        assert len({job["name"] for job in running}) == len(running), "one job of a name"
        return {job["name"]: job["jid"] for job in running}

    def end_to_end(self, *arguments):
        return subprocess.run(
            ["./e2e_test.sh", *arguments], cwd=ROOT, env=self.env, capture_output=True, text=True, check=False,
            timeout=600, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture(scope="session")
def compose(tmp_path_factory):
    """The stack, started the way the README says, in its own project; removed with its volumes afterwards."""
    if not shutil.which("docker"):
        pytest.fail("docker is not installed: the tests of the Docker stack need it")
    stack = Compose(tmp_path_factory.mktemp("compose") / "override.yaml")
    stack("down", "--volumes", "--timeout", "10")
    try:
        stack.up("--build")
        yield stack
    finally:
        stack.override.unlink(missing_ok=True)
        stack("down", "--volumes", "--timeout", "30", check=False)


def eventually(condition, seconds=60.0):
    """The first true value of `condition`; what does not answer has none."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError):
            if value := condition():
                return value
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(1)


@pytest.fixture(name="eventually")
def _eventually():
    return eventually
