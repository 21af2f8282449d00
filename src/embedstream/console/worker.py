"""The process that owns the console's application."""

from __future__ import annotations

import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING

from embedstream.console.app import create_app
from embedstream.console.entrance import Entrance
from embedstream.console.parts import Parts
from embedstream.console.server import MAX_BODY, READ_SECONDS, THREADS
from embedstream.logs import configure_logging
from embedstream.web.door import Door
from embedstream.web.serving import STOP_SIGNALS, end_with_parent, start_thread

if TYPE_CHECKING:
    from embedstream.console.entrance import Tools
    from embedstream.settings import Settings

_ANSWER_SECONDS = 3.0


def start_worker(settings: Settings) -> Entrance:
    """Call it with STOP_SIGNALS blocked in every thread: `_stop_when_told` waits for them."""
    configure_logging(settings.log_level)
    parts = Parts.of(settings)
    app = create_app(parts)
    door = Door(app, threads=THREADS, read_seconds=READ_SECONDS, max_body=MAX_BODY, max_held=THREADS * MAX_BODY)
    entrance = Entrance(door, app.extensions["guard"], _tools(parts), READ_SECONDS, MAX_BODY)
    start_thread(end_with_parent)
    start_thread(_stop_when_told, parts, door)
    parts.start()
    return entrance


def _tools(parts: Parts) -> Tools | None:
    """None where their library is not installed: then a page says so."""
    if find_spec("mcp") is None:
        return None
    from embedstream.mcp.http import HttpTools  # noqa: PLC0415 - the console works without it

    return HttpTools(parts)


def _stop_when_told(parts: Parts, door: Door) -> None:
    """Finish what is being answered, then let the signal through to the server."""
    number = signal.sigwait(STOP_SIGNALS)
    door.wait_until_answered(_ANSWER_SECONDS)
    parts.close()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.raise_signal(number)
