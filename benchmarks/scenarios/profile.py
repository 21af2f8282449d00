"""Where the processor's time goes: microseconds a message by part, from topic to committed rows, with a stub model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import psutil

from benchmarks.cpu import seconds, seconds_of_all
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
    stub = start(running_service(plan.directory, "fake:384"))
    # The stack's own is not a child of this process.
    service = next(each for each in psutil.Process().children() if "embedstream.service" in each.cmdline())
    job = start(stack.running_job(stack.named("profile", embedding_service_url=stub)))
    look = partial(_seconds, stack.pids(), service)
    texts = plan.size(60_000, 4000)
    yield Contender("embedstream", lambda number: _figures(job, look, plan.texts(number, texts)))


def _figures(job: Settings, look: Callable[[], _Seconds], texts: list[str]) -> Figures:
    before = look()
    rate = texts_per_second(job, texts)
    spent = {name: 1e6 * (now - before[name]) / len(texts) for name, now in look().items()}
    return {
        **{f"{name}_us": microseconds for name, microseconds in spent.items()},
        FIGURE: sum(spent.values()),
        "texts_per_second": rate,
    }


def _seconds(pids: Mapping[str, int], service: psutil.Process) -> _Seconds:
    """Since each part began; `worker` is what runs the job's function, `load` this process itself."""
    task_manager = psutil.Process(pids["taskmanager"])
    workers = [each for each in task_manager.children(recursive=True) if "python" in each.name()]
    of_workers = sum(map(seconds, workers))
    return {
        "worker": of_workers,
        "taskmanager": seconds_of_all(task_manager) - of_workers,
        **{name: seconds_of_all(psutil.Process(pids[name])) for name in _PARTS},
        "service": seconds_of_all(service),
        "load": seconds(psutil.Process()),
    }
