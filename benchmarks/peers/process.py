"""Peers in an environment of their own, as child processes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import httpx
import numpy as np

from embedstream.errors import EmbedstreamError
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.service.engine.model import find_model
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_SECONDS = 120.0
ENGINES = "engines"


class PeerFailed(EmbedstreamError):
    """A peer's process ended, or does not start here."""


def environment(name: str) -> Path:
    """The virtual environment that `<name>.txt` describes; raises PeerFailed where there is none."""
    path = Path(os.environ.get("BENCH_PEERS", ROOT / ".venv-peers")) / name
    if not (path / "bin" / "python").exists():
        raise PeerFailed(f"there is no .venv-peers/{name}: make bench-peers")
    return path


def command(script: str, name: str) -> list[str]:
    """What runs a script of this folder in an environment, with the model's directory and that of its ONNX file."""
    home = environment(name)
    model = find_model(load_settings().embedding_model).directory
    return [str(home / "bin" / "python"), str(HERE / script), str(model), str(home / "model-onnx")]


@dataclass(frozen=True)
class Peer:
    """A process that speaks the protocol of `line.py`."""

    name: str
    versions: dict[str, str]
    _process: subprocess.Popen[str]
    _directory: Path

    def embed(self, texts: Sequence[str]) -> tuple[float, npt.NDArray[np.float32]]:
        """Seconds by the peer's own clock, and the vectors."""
        task, vectors = self._directory / f"{self.name}.json", self._directory / f"{self.name}.npy"
        task.write_text(json.dumps(texts), encoding="utf-8")
        answer = _ask(self._process, {"texts": str(task), "vectors": str(vectors)})
        return answer["seconds"], np.load(vectors)


@contextmanager
def running_peer(name: str, script: str, directory: Path, environment_name: str) -> Iterator[Peer]:
    """Ready, and ended after the block."""
    log = directory / f"{script}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command(script, environment_name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(),
        )
    try:
        try:
            ready = _answer(process)
        except PeerFailed as exc:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise PeerFailed(f"{exc}: {' '.join(last)}") from exc
        yield Peer(name, ready["versions"], process, directory)
    finally:
        cast("IO[str]", process.stdin).close()
        process.wait(30)


@contextmanager
def running_server(script: str, directory: Path) -> Iterator[str]:
    """The address of a peer that is an HTTP server with a `/health`; ended after the block."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    arguments = [*command(script, ENGINES), str(port)]
    with (directory / f"{script}.log").open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, env=_environment())
    try:
        _wait_until_ready(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"{url}/health", timeout=5, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerFailed("it does not start") from None
            time.sleep(0.2)
        else:
            return


def _environment() -> dict[str, str]:
    """No peer may look for a model elsewhere."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


def _ask(process: subprocess.Popen[str], task: dict[str, str]) -> dict[str, Any]:
    stdin = cast("IO[str]", process.stdin)
    stdin.write(json.dumps(task) + "\n")
    stdin.flush()
    return _answer(process)


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = cast("IO[str]", process.stdout).readline()
    if not line:
        raise PeerFailed(f"it ended with {process.wait()}")
    return cast("dict[str, Any]", json.loads(line))
