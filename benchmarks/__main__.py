"""`python -m benchmarks`: measure on the embedded stack, print, and write one JSON result."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import pipeline
from embedstream.local.stack import ensure_up

PACKAGES = ("apache-flink", "confluent-kafka", "openvino", "psycopg", "tokenizers")


def main(
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.")] = 3,
    texts: Annotated[int, typer.Option(help="Texts in each round.")] = 1000,
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the embedded stack.")] = Path(".embedstream"),
    output: Annotated[Path | None, typer.Option(help="Where the result is written.")] = None,
) -> None:
    """Measure the pipeline against its engine."""
    result = {"figures": pipeline.measure(ensure_up(directory), rounds, texts), **_circumstances()}
    text = json.dumps(result, indent=2)
    print(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")


def _circumstances() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def _machine() -> dict[str, Any]:
    facts = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = [line.split(":", 1) for line in facts.splitlines() if ":" in line]
    known = {name.strip(): value.strip() for name, value in lines}
    flags = [flag for flag in known.get("flags", "").split() if flag.startswith(("avx", "amx", "fma"))]
    return {
        "cpus": sum(name.strip() == "processor" for name, _ in lines),
        "cpu": known.get("model name"),
        "flags": flags,
    }


if __name__ == "__main__":
    typer.run(main)
