"""Runs the console: one worker process owns the application."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

from embedstream.console import guard
from embedstream.web.serving import STOP_SIGNALS, Listening
from embedstream.web.serving import serve as serve_http

if TYPE_CHECKING:
    from embedstream.console.entrance import Entrance
    from embedstream.settings import Settings

READ_SECONDS = 30.0
_STOP_SECONDS = 5
THREADS = 64
MAX_BODY = 4 * 2**20


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP.

    Raises ConfigError if anybody could come in, for a file of pipelines that does not hold, or if the port cannot be
    had.
    """
    guard.check(settings)
    from embedstream.console.parts import Parts  # noqa: PLC0415 - a bad address is told at once

    Parts.of(settings)
    listening = Listening(
        "CONSOLE", settings.console_host, settings.console_port, READ_SECONDS, _STOP_SECONDS, lives=True
    )
    serve_http(partial(_load_application, settings), listening, settings.log_level)


def _load_application(settings: Settings) -> Entrance:
    # In the worker, and before the imports, because they start threads, which inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    from embedstream.console.worker import start_worker  # noqa: PLC0415 - see above

    return start_worker(settings)
