"""What the console shows: pipelines, each with its watcher and its searches, and the work beside the pages."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, cast

from flask import current_app, request

from embedstream.console.tasks import Tasks
from embedstream.console.watcher import Watcher
from embedstream.errors import ConfigError
from embedstream.pipelines.choice import all_settings
from embedstream.search.searcher import Searcher
from embedstream.status.read import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embedstream.console.auditing import Audited
    from embedstream.search.answer import Answer
    from embedstream.search.request import Request
    from embedstream.settings import Settings


class Pipeline:
    """One topic and its table, as the pages see them."""

    def __init__(self, name: str | None, settings: Settings, watcher: Watcher) -> None:
        self.name = name or settings.flink_job_name
        self.settings = settings
        self.watcher = watcher
        self.replaying = threading.Lock()
        self.counted: Callable[[str, str, Answer, float], None] | None = None
        self._is_named = name is not None
        self._searcher: Searcher | None = None
        self._lock = threading.Lock()

    @property
    def option(self) -> str:
        """What a command takes to be about this one."""
        return f" --pipeline {self.name}" if self._is_named else ""

    @property
    def searcher(self) -> Searcher:
        with self._lock:
            self._searcher = self._searcher or Searcher(self.settings)
            return self._searcher

    def search(self, asked: Request) -> Answer:
        """The answer, which is told to who counts: name, mode, answer and seconds."""
        began = time.perf_counter()
        answer = self.searcher.search(asked)
        if self.counted:
            self.counted(self.name, asked.mode, answer, time.perf_counter() - began)
        return answer

    def close(self) -> None:
        self.watcher.stop()
        if self._searcher:
            self._searcher.close()


class Parts:
    """By name; the first one is shown where no other is asked for."""

    def __init__(self, settings: Settings, pipelines: Mapping[str, Pipeline]) -> None:
        self.settings = settings
        self.pipelines = dict(pipelines)
        self.tasks = Tasks()
        self.audits: dict[str, Audited] = {}

    @classmethod
    def of(cls, settings: Settings) -> Parts:
        """Raises ConfigError for a file of pipelines that does not hold."""
        pipelines = (Pipeline(name, each, Watcher(Observer(each))) for name, each in all_settings(settings).items())
        return cls(settings, {each.name: each for each in pipelines})

    def start(self) -> None:
        for pipeline in self.pipelines.values():
            pipeline.watcher.start()

    def close(self) -> None:
        for pipeline in self.pipelines.values():
            pipeline.close()

    def chosen(self, name: str | None) -> Pipeline:
        """Raises ConfigError where there is none of this name."""
        if not name:
            return next(iter(self.pipelines.values()))
        if name not in self.pipelines:
            raise ConfigError(f"there is no pipeline {name}: there are {', '.join(self.pipelines)}")
        return self.pipelines[name]


def parts() -> Parts:
    return cast("Parts", current_app.extensions["parts"])


def pipeline() -> Pipeline:
    """The one that the current request is about."""
    return parts().chosen(request.args.get("pipeline"))
