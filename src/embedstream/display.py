"""How facts are shown on a terminal."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def as_json(facts: Any) -> str:  # noqa: ANN401 - whatever a command prints
    plain = asdict(facts) if is_dataclass(facts) and not isinstance(facts, type) else facts
    return json.dumps(plain, indent=2, default=str, ensure_ascii=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of one line a row; nothing in a cell is taken for markup, and what is too long ends in an ellipsis."""
    grid = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in grid.columns:
        column.no_wrap = True
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    return grid


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that is told how many are done; nothing but the description where that is no terminal."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(what, total=total, rate="")

        def update(done: int) -> None:
            speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
            bar.update(task, completed=done, rate=f"{speed:,.0f}/s" if speed else "")

        yield update
