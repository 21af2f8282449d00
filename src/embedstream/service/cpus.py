"""How many CPUs this process may really use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """The CPUs that the scheduler and the cgroup's quota leave to this process, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_quotas(_CGROUPS, _OWN_CGROUP)])))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """The CPUs' worth of time that version 2's cpu.max grants, here and in every group above."""
    for group in _groups(cgroups, own):
        try:
            quota, period = (group / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            yield int(quota) / int(period)


def _groups(cgroups: Path, own: Path) -> Iterator[Path]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = cgroups / path
    yield from (group, *group.parents[: len(Path(path).parts)])
