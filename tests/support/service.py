"""A real embedding service for the tests that need one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import psutil

from embedstream.local.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

START_SECONDS = 50
STOP_SECONDS = 20


@dataclass(frozen=True)
class ServiceProcess:
    """A service that was started as a user would; `log` is what it wrote."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def family(self) -> list[psutil.Process]:
        """The main process and all that it started."""
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def terminate(self) -> int:
        """Send SIGTERM to the main process, and wait for its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def started_service(
    directory: Path, model: str = MINILM, *, port: int | None = None, **environment: str
) -> Iterator[ServiceProcess]:
    """A service process that may not be ready yet; ended with all that it started after the block."""
    port = port or free_port()
    own = {"EMBEDDING_MODEL": model, "EMBEDDING_HOST": LOOPBACK, "EMBEDDING_PORT": str(port), **environment}
    log = directory / f"service-{port}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "embedstream.service"],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    service = ServiceProcess(f"http://{LOOPBACK}:{port}", port, process, log)
    try:
        yield service
    finally:
        _end(service)


@contextmanager
def running_service(directory: Path, model: str = MINILM, **environment: str) -> Iterator[ServiceProcess]:
    """A service that is ready."""
    with started_service(directory, model, **environment) as service:
        service.wait_until_ready()
        yield service


def _end(service: ServiceProcess) -> None:
    if service.process.poll() is None:
        family = service.family()
        try:
            service.terminate()
        except subprocess.TimeoutExpired:
            for process in family:
                process.kill()
            service.process.wait()
