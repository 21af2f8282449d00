"""What a failure comes down to, in one line: from the stack trace of a job, or from what `flink run` printed.

A worker's exception may quote the record that it could not take. So its message is told only for types whose messages
speak of the program or the machine; of the others, the place in the code.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_KNOWN = "its cause is not known"

_LONGEST = 500
_TRACEBACK = "Traceback (most recent call last):"
_WORKER = "Error received from SDK harness"
_ABORT = "org.apache.flink.client.program.ProgramAbortException: java.lang.RuntimeException: Python process exits"
_CAUSED_BY = "Caused by: "
_THROWN = re.compile(r"(?P<package>(?:\w+\.)*)(?P<type>[\w$]+)(?:: (?P<message>.*))?")
_PLACE = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)')
_QUOTES_NO_RECORD = frozenset(
    {"ImportError", "ModuleNotFoundError", "AttributeError", "NameError", "MemoryError", "SystemExit"}
    | {error.__name__ for error in (OSError, FileNotFoundError, PermissionError, ConnectionError, TimeoutError)}
)
_OURS = "embedstream.errors."


def innermost(text: str) -> str:
    """The innermost meaningful exception of a stack trace, or of a program's output; never empty.

    Of an output without any, the last line.
    """
    before = text.partition(_ABORT)[0]
    text = before if before.strip() else text
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    if not lines:
        return NOT_KNOWN
    if _WORKER in text and _TRACEBACK in text:
        return _of_worker(text.rpartition(_TRACEBACK)[2])
    causes = [line.removeprefix(_CAUSED_BY) for line in lines if line.startswith(_CAUSED_BY)]
    return _short(_fullest([_head(lines), *causes]) if causes else _without_causes(text, lines))


def _of_worker(traceback: str) -> str:
    thrown = _raised(traceback)
    match = _THROWN.fullmatch(thrown)
    if match and (match["type"] in _QUOTES_NO_RECORD or thrown.startswith(_OURS)):
        return _short(thrown)
    places = [f" in {PurePath(place['path']).name}, line {place['line']}" for place in _PLACE.finditer(traceback)]
    kind = match["package"] + match["type"] if match else "an exception"
    return f"{kind}{places[-1] if places else ''} of a Python worker; Flink's web UI has its message"


def _raised(traceback: str) -> str:
    """The exception's own line, which follows the indented frames."""
    return next((line for line in traceback.splitlines() if line.strip() and not line[0].isspace()), "")


def _head(lines: Sequence[str]) -> str:
    """What was caused: the exception that a trace begins with, or the Java one behind a Python one of py4j's."""
    return next((line.removeprefix(": ") for line in lines if line.startswith(": ")), lines[0])


def _fullest(causes: Sequence[str]) -> str:
    """The innermost, or the one around it where that says the same and more: the name of a file, an address."""
    outer, inner = causes[-2:]
    message = _message(inner)
    says_more = message and message in _message(outer) and not outer.endswith(inner)
    return outer if says_more else inner


def _without_causes(text: str, lines: Sequence[str]) -> str:
    if _TRACEBACK in text:
        last = text.rpartition(_TRACEBACK)[2]
        # What Python says of an error in Java is no more than the call; the error follows behind a colon.
        java = next((line.removeprefix(": ") for line in last.splitlines() if line.startswith(": ")), None)
        return java or _raised(last) or lines[-1]
    if "\n\tat " in text:
        return lines[0]
    return lines[-1]


def _message(thrown: str) -> str:
    match = _THROWN.fullmatch(thrown)
    return (match["message"] or "") if match else thrown


def _short(thrown: str) -> str:
    """Without the package of the exception's class, and of a length that a line can have."""
    match = _THROWN.fullmatch(thrown.strip())
    line = thrown.strip()
    if match and match["package"]:
        line = match["type"].rpartition("$")[2] + (f": {match['message']}" if match["message"] else "")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
