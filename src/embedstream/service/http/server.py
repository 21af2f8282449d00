"""Runs the embedding service: one worker process owns the engine."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

from embedstream.web.serving import STOP_SIGNALS, Listening
from embedstream.web.serving import serve as serve_http

if TYPE_CHECKING:
    from embedstream.settings import Settings
    from embedstream.web.door import Door

_KILL_SECONDS = 5


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; then finish what was accepted, for at most EMBEDDING_DRAIN_SECONDS.

    While the model is loaded, /health answers 503. Where the worker process ends by itself, SystemExit(1) is raised.

    Raises ConfigError if there is no such model, or the port cannot be had.
    """
    _check_model(settings)
    listening = Listening(
        "EMBEDDING", settings.embedding_host, settings.embedding_port,
        settings.embedding_read_seconds, settings.embedding_drain_seconds + _KILL_SECONDS,
    )  # fmt: skip
    serve_http(partial(_load_application, settings), listening, settings.log_level)


def _check_model(settings: Settings) -> None:
    # What an engine needs is imported where it is the one.
    if settings.embedding_engine == "remote":
        from embedstream.service.remote.opening import check  # noqa: PLC0415

        check(settings)
        return
    from embedstream.service.engine.model import fake_dimension, find_model  # noqa: PLC0415

    if fake_dimension(settings.embedding_model) is None:
        find_model(settings.embedding_model, any_network=settings.embedding_engine != "openvino")


def _load_application(settings: Settings) -> Door:
    # In the worker, and before the imports, because they start threads, which inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    from embedstream.service.http.worker import start_worker  # noqa: PLC0415 - see above

    return start_worker(settings)
