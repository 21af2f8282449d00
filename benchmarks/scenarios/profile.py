"""Where the processor's time goes: microseconds a message by part, from topic to committed rows, with a stub model."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import psutil

from benchmarks.delivery import texts_per_second
from benchmarks.plan import Contender, Figures, Plan
from benchmarks.stack import running_service, running_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from embedstream.settings import Settings

TITLE = "Profile: microseconds of processor time a message, by part (stub model)"
FIGURE = "all_us"
BASELINE = None

_PARTS = ("kafka", "jobmanager", "postgres")
_Seconds = dict[str, float]


def contenders(plan: Plan) -> Iterator[Contender]:
    start = plan.closing.enter_context
    stack = start(running_stack(plan.directory, jobs=1))
    before = {process.pid for process in psutil.process_iter()}
    stub = start(running_service(plan.directory, "fake:384"))
    services = [process.pid for process in psutil.process_iter() if process.pid not in before and _serves(process)]
    job = start(stack.running_job(stack.named("profile", embedding_service_url=stub)))
    look = partial(_seconds, stack.pids(), services)
    texts = plan.size(60_000, 4000)
    yield Contender("embedstream", lambda number: _figures(job, look, plan.texts(number, texts)))


def _figures(job: Settings, look: Callable[[], _Seconds], texts: list[str]) -> Figures:
    before = look()
    rate = texts_per_second(job, texts)
    spent = {name: 1e6 * (seconds - before[name]) / len(texts) for name, seconds in look().items()}
    return {
        **{f"{name}_us": microseconds for name, microseconds in spent.items()},
        FIGURE: sum(spent.values()),
        "texts_per_second": rate,
    }


def _seconds(pids: Mapping[str, int], services: list[int]) -> _Seconds:
    """Since each part began; `worker` is what runs the job's function, `load` this process itself."""
    task_manager = psutil.Process(pids["taskmanager"])
    java = [task_manager, *(each for each in task_manager.children(recursive=True) if "java" in _name(each))]
    workers = [each for each in task_manager.children(recursive=True) if "python" in _name(each)]
    return {
        "worker": sum(map(_spent, workers)),
        "taskmanager": sum(map(_spent, java)),
        **{name: _of_all(pids[name]) for name in _PARTS},
        "service": sum(_of_all(pid) for pid in services),
        "load": _spent(psutil.Process(os.getpid())),
    }


def _of_all(pid: int) -> float:
    """Of a process, of its children, and of those of its children that have ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        times = process.cpu_times()
        alive = sum(_spent(child) for child in process.children(recursive=True))
        return float(alive + sum(times[:2]) + times.children_user + times.children_system)
    return 0.0


def _spent(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:2]))
    return 0.0


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def _serves(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "embedstream.service" in process.cmdline() and process.ppid() == os.getpid()
    return False
