"""How facts are shown on a terminal; the only module that prints."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    Watch: TypeAlias = "Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]"

T = TypeVar("T")

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)

# What a terminal obeys, or shows other than it stands there: C0, DEL and C1, marks and overrides of direction, other
# separators of lines, what encloses annotations, tags, and halves of surrogate pairs, which cannot be printed at all.
_TRICKS = "\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_TRICK = re.compile(f"[{_TRICKS}]")
_TRICK_IN_LINES = re.compile(rf"(?!\n)[{_TRICKS}]")


def say(text: object, *, to_stderr: bool = False) -> None:
    """Print lines at once; nothing that a terminal would obey gets through, whoever wrote the text."""
    print(harmless(str(text)), file=sys.stderr if to_stderr else None, flush=True)


def harmless(lines: str) -> str:
    """The lines with what would play tricks on a terminal replaced by U+FFFD."""
    return _TRICK_IN_LINES.sub(_REPLACEMENT, lines)


def as_json(facts: Any, indent: int | None = 2) -> str:  # noqa: ANN401 - whatever a command prints
    """JSON with other scripts as they are, and what would play tricks on a terminal as escapes."""
    plain = asdict(facts) if is_dataclass(facts) and not isinstance(facts, type) else facts
    text = json.dumps(plain, indent=indent, default=_plain, ensure_ascii=False)
    return _TRICK_IN_LINES.sub(lambda found: json.dumps(found[0])[1:-1], text)


def json_with_list(facts: dict[str, Any], name: str, items: Iterable[Any]) -> Iterator[str]:
    """The lines of one JSON object: facts, at least one, and under `name` a list that need not fit into memory."""
    yield f"{as_json(facts).removesuffix('}').rstrip()},"
    line = f'  "{name}": ['
    comma = ""
    for item in items:
        yield line + comma
        line, comma = f"    {as_json(item, indent=None)}", ","
    yield line
    yield "  ]"
    yield "}"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns, one line a row; on a terminal what is too long for its width ends in an ellipsis."""
    cells = [[printable(str(cell)) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(_fitted(line) for line in lines)


def _fitted(line: str) -> str:
    width = console.width if console.is_terminal else len(line)
    return line if len(line) <= width else line[: width - 1] + "…"


def printable(text: str) -> str:
    """As `harmless`, and one line."""
    return _TRICK.sub(_REPLACEMENT, text)


def first_line(text: str) -> str:
    return printable(next((line.strip() for line in text.splitlines() if line.strip()), ""))


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


def watched(watch: Watch, what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items, as they come, while `watch` is told how many came."""
    with watch(what, total) as update:
        for number, item in enumerate(items, 1):
            update(number)
            yield item


@contextmanager
def silently(*_: object) -> Iterator[Callable[[int], None]]:
    """As `progress`, for who is to hear nothing of it."""
    yield lambda _: None


def duration(seconds: float) -> str:
    """Two units at most: 0.3 s, 42 s, 3 min 20 s, 5 h 12 min, 2 d 3 h."""
    if seconds < 100:  # noqa: PLR2004 - below it seconds read best
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    total = int(seconds)
    for size, unit, small, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if total >= size:
            return f"{total // size} {unit} {total % size // small} {part}"
    raise AssertionError
