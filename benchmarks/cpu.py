"""Processor time of processes."""

from __future__ import annotations

import psutil


def seconds(process: psutil.Process) -> float:
    """With that of its children that have ended; 0 where it has ended itself."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def seconds_of_all(main: psutil.Process) -> float:
    """With its children's: what one of them spent that ends meanwhile is counted by its parent, which is asked last."""
    return sum(map(seconds, main.children(recursive=True))) + seconds(main)
