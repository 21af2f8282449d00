"""What takes longer than a page may: it runs beside the requests, and pages ask how far it is."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from embedstream.errors import EmbedstreamError
from embedstream.web.serving import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedstream.display import Watch

logger = logging.getLogger(__name__)

State: TypeAlias = Literal["running", "done", "failed", "cancelled"]

_MOST_KEPT = 200


class Cancelled(EmbedstreamError):
    """Somebody asked for the end of it."""


class Busy(EmbedstreamError):
    """One of this key runs."""


@dataclass
class Task:
    """`done` of `total` steps of `doing`, where they are known; `result` is that of the work."""

    key: str
    began: datetime
    state: State = "running"
    doing: str = ""
    done: int = 0
    total: int | None = None
    result: Any = None
    error: str = ""
    ended: datetime | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @contextmanager
    def watch(self, doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """As `display.progress`; what reports its progress here ends with Cancelled when it is to."""
        self.doing, self.done, self.total = doing, 0, total

        def update(done: int) -> None:
            if self.cancelled.is_set():
                raise Cancelled("cancelled")
            self.done = done

        yield update


class Tasks:
    """Of each key the last one; a second of a key does not start beside the first."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._lock = threading.Lock()

    def last(self, key: str) -> Task | None:
        return self._tasks.get(key)

    def start(self, key: str, work: Callable[[Watch], Any], *, alone: bool = False) -> Task:
        """Start it anew, or find the one that runs; raises Busy instead where it is to be `alone`."""
        with self._lock:
            task = self._tasks.get(key)
            if task is None or not task.is_running:
                self._tasks.pop(key, None)
                task = self._tasks[key] = Task(key, datetime.now(UTC))
                self._drop_old()
                start_thread(_run, task, work)
            elif alone:
                raise Busy(key)
            return task

    def ensure(self, key: str, work: Callable[[Watch], Any], seconds: float) -> Task:
        """The last one, unless it is older than so many seconds."""
        task = self.last(key)
        if task and (task.ended is None or (datetime.now(UTC) - task.ended).total_seconds() < seconds):
            return task
        return self.start(key, work)

    def cancel(self, key: str) -> None:
        if task := self.last(key):
            task.cancelled.set()

    def _drop_old(self) -> None:
        ended = [key for key, task in self._tasks.items() if not task.is_running]
        for key in ended[: max(0, len(self._tasks) - _MOST_KEPT)]:
            del self._tasks[key]


def _run(task: Task, work: Callable[[Watch], Any]) -> None:
    try:
        task.result = work(task.watch)
    except Cancelled:
        task.state = "cancelled"
    except EmbedstreamError as exc:
        task.state, task.error = "failed", str(exc)
    except Exception:
        logger.exception("%s failed", task.key)
        task.state, task.error = "failed", "it failed; the console's log says more"
    else:
        task.state = "done"
    task.ended = datetime.now(UTC)
