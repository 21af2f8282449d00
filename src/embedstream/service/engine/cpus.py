"""How many CPUs this process may really use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_NO_QUOTA = ("max", "-1")


def usable_cpus() -> int:
    """The CPUs that the scheduler and the cgroup's quota leave to this process, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_quotas(_CGROUPS, _OWN_CGROUP)])))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """The CPUs' worth of time that is granted here and in every group above, in either version of cgroups."""
    for group in _groups(cgroups, own, ""):
        yield from _share(group / "cpu.max")
    for group in _groups(cgroups / "cpu", own, "cpu"):
        yield from _share(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")


def _share(*files: Path) -> Iterator[float]:
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        if quota not in _NO_QUOTA:
            yield int(quota) / int(period)
    except (OSError, ValueError):
        return


def _groups(cgroups: Path, own: Path, controller: str) -> Iterator[Path]:
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return
    paths = [path.strip("/") for _, controllers, path in lines if controller in controllers.split(",")]
    for path in paths:
        group = cgroups / path
        yield from (group, *group.parents[: len(Path(path).parts)])
