"""The console's pages in a real browser, and what people who look at it cost the parts of the pipeline."""

from __future__ import annotations

import importlib
import shutil
import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from benchmarks.cpu import seconds_of_all
from benchmarks.delivery import messages, seconds_to_table
from benchmarks.plan import Contender, Figures, Plan, Skipped
from benchmarks.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TITLE = "Console: milliseconds to a page's first paint, and CPU of the parts by viewers"
FIGURE = "first_paint_ms"
BASELINE = None

_PAGES = (
    "/health", "/", "/search", "/search?q=how+to+draw+a+sample", "/message/none", "/dead-letters", "/audit", "/doctor",
    "/index", "/map", "/pipelines", "/settings",
)  # fmt: skip
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
_SENT = "performance.getEntriesByType('resource').reduce((sum, each) => sum + each.transferSize, 0)"
_REFRESH = 2.0
"""Seconds between two readings of an overview that is open."""


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    start = plan.closing.enter_context
    stack = start(running_stack(plan.directory, jobs=1))
    settings = start(stack.running_job(stack.settings))
    seconds_to_table(settings, messages(plan.texts(0, plan.size(2000, 200))))
    address = f"http://127.0.0.1:{settings.console_port}"
    yield from _pages(plan, address)
    for viewers in (0, 1, 10):
        yield Contender(f"{viewers} viewers", partial(_cost, plan, stack.pids(), address, viewers))


def _pages(plan: Plan, address: str) -> Iterator[Contender | Skipped]:
    chromium = shutil.which("chromium")
    if chromium is None:
        yield Skipped("pages", "there is no chromium")
        return
    # Installed only where there is a browser.
    sync_api: Any = importlib.import_module("playwright.sync_api")
    browser = plan.closing.enter_context(sync_api.sync_playwright()).chromium.launch(executable_path=chromium)
    plan.closing.callback(browser.close)
    for path in _PAGES:
        yield Contender(path, partial(_painted, plan, browser, address + path))


def _painted(plan: Plan, browser: Any, url: str, number: int) -> Figures:  # noqa: ANN401 - playwright is not always there
    """Each time with an empty cache."""
    paints, kilobytes = [], []
    for _ in range(plan.count(number, 10, 2)):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        paints.append(_paint(page))
        kilobytes.append(page.evaluate(_SENT) / 1000)
        context.close()
    return {FIGURE: statistics.median(paints), "longest_ms": max(paints), "assets_kb": max(kilobytes)}


def _paint(page: Any) -> float:  # noqa: ANN401 - as above
    """Asked for again and again: playwright's own waiting evaluates strings in the page, which its policy forbids."""
    while not (paint := page.evaluate(_PAINT)):
        time.sleep(0.02)
    return float(paint)


def _cost(plan: Plan, parts: Mapping[str, int], address: str, viewers: int, number: int) -> Figures:
    """CPU milliseconds a second; `parts` are the first process of each."""
    with ExitStack() as looking:
        for _ in range(viewers):
            looking.enter_context(_viewer(address))
        before, began = _used(parts), time.monotonic()
        time.sleep(plan.count(number, 30, 6))
        spent, seconds = _used(parts), time.monotonic() - began
    used = {name: 1000 * (spent[name] - before[name]) / seconds for name in parts}
    console = used.pop("console")
    return {"parts_cpu_ms_per_second": sum(used.values()), "console_cpu_ms_per_second": console}


@contextmanager
def _viewer(address: str) -> Iterator[None]:
    closed = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
            client.get("/").raise_for_status()
            while not closed.wait(_REFRESH):
                client.get("/parts/overview").raise_for_status()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()


def _used(parts: Mapping[str, int]) -> dict[str, float]:
    return {name: seconds_of_all(psutil.Process(pid)) for name, pid in parts.items()}
