"""Runs the embedding service: one worker process owns the engine."""

from __future__ import annotations

import signal
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.web.serving import STOP_SIGNALS, Listening
from embedstream.web.serving import serve as serve_http

if TYPE_CHECKING:
    from embedstream.settings import Settings
    from embedstream.web.door import Door

_KILL_SECONDS = 5


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; then finish what was accepted, for at most EMBEDDING_DRAIN_SECONDS.

    While the model is downloaded and loaded, /health answers 503. Where the worker process ends by itself,
    SystemExit(1) is raised.

    Raises ConfigError if there is no such model, or the port cannot be had.
    """
    _check_model(settings)
    listening = Listening(
        "EMBEDDING", settings.embedding_host, settings.embedding_port,
        settings.embedding_read_seconds, settings.embedding_drain_seconds + _KILL_SECONDS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        refusal = Path(directory) / "refusal"
        try:
            serve_http(partial(_load_application, settings, refusal), listening, settings.log_level)
        except SystemExit:
            if refusal.exists():
                raise ConfigError(refusal.read_text(encoding="utf-8")) from None
            raise


def _check_model(settings: Settings) -> None:
    # What an engine needs is imported where it is the one.
    if settings.embedding_engine == "remote":
        from embedstream.service.remote.opening import check  # noqa: PLC0415

        check(settings)
        return
    from embedstream.service.engine.model import fake_dimension, find_model, wishes_of  # noqa: PLC0415
    from embedstream.service.engine.names import is_on_hub  # noqa: PLC0415

    if not is_on_hub(settings) and fake_dimension(settings.embedding_model) is None:
        any_network = settings.embedding_engine != "openvino"
        find_model(settings.embedding_model, any_network=any_network, wishes=wishes_of(settings))


def _load_application(settings: Settings, refusal: Path) -> Door:
    # In the worker, and before the imports, because they start threads, which inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    from embedstream.service.http.worker import start_worker  # noqa: PLC0415 - see above

    return start_worker(settings, refusal)
