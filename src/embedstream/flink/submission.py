"""Submission with Flink's command line; no PyFlink in this process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from embedstream.errors import ConfigError
from embedstream.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings


def run(settings: Settings, on_output: Callable[[str], None] = lambda _: None) -> None:
    """Submit the job with `flink run`; raises ConfigError with the last lines it printed where it fails."""
    rest = urlsplit(settings.flink_rest_url)
    command = [
        str((settings.flink_home or flink_home()) / "bin" / "flink"),
        "run",
        "--detached",
        "--target=remote",
        f"-Drest.address={rest.hostname}",
        f"-Drest.port={rest.port or 80}",
        f"--pyExecutable={sys.executable}",
        f"--pyClientExecutable={sys.executable}",
        "--python",
        str(Path(__file__).parent.with_name("job") / "__main__.py"),
    ]
    done = subprocess.run(
        command,
        env=child_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        on_output(line)
    if done.returncode:
        tail = " | ".join(line.strip() for line in done.stdout.strip().splitlines()[-5:])
        raise ConfigError(f"flink run ended with {done.returncode}: {tail}")


def flink_home() -> Path:
    """The distribution inside PyFlink; found without importing it."""
    spec = importlib.util.find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise ConfigError("neither FLINK_HOME is set nor apache-flink installed: pip install 'embedstream[job]'")
    return Path(spec.origin).parent
