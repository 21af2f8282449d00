"""Where, when and of what a result was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from embedstream.service.engine.cpus import usable_cpus
from embedstream.settings import Settings, load_settings

PACKAGES = ("apache-flink", "confluent-kafka", "granian", "numpy", "openvino", "psycopg", "tokenizers")
FLAGS = ("avx", "amx", "fma")
ROOT = Path(__file__).parents[1]


def circumstances() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "set": _set_by_the_user(load_settings()),
    }


def machine() -> dict[str, Any]:
    """`busy` is the share of the CPUs that was in use in the second before the run."""
    facts = _cpuinfo()
    return {
        "cpu": facts.get("model name", platform.processor()),
        "flags": sorted(flag for flag in facts.get("flags", "").split() if flag.startswith(FLAGS)),
        "cpus": os.cpu_count(),
        "cpus_of_affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpus_of_affinity_and_cgroup": usable_cpus(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "busy": round(psutil.cpu_percent(1) / 100, 2),
    }


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _set_by_the_user(settings: Settings) -> dict[str, str]:
    """The settings that are not at their defaults; a secret shows as asterisks."""
    return {name.upper(): str(getattr(settings, name)) for name in sorted(settings.model_fields_set)}
