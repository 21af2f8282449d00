"""A console over parts that a test makes up: what the pages do with what they are told."""

import time

from embedstream.console.app import create_app
from embedstream.console.parts import Parts, Pipeline
from embedstream.console.watcher import Watcher
from embedstream.settings import Settings


class Observer:
    """Reads what it is given; an exception is raised."""

    def __init__(self, *readings):
        self.readings = list(readings)
        self.reads = 0

    def read(self):
        self.reads += 1
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading


class Searcher:
    """Answers each search with the same."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    def search(self, request):
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self):
        pass


def console(*readings, answer=None, names=(None,), **settings):
    """The application; its first pipeline has been looked at once for each reading."""
    base = Settings.model_construct(**settings)
    pipelines = [Pipeline(name, base, Watcher(Observer(*readings))) for name in names]
    for _ in readings:
        pipelines[0].watcher.look()
    pipelines[0]._searcher = Searcher(answer)
    return create_app(Parts(base, {each.name: each for each in pipelines}))


def until(is_so, seconds=10):
    """Waits for what a task does beside the requests."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
