"""The process that owns the engine: it answers from its first moment, loads the model, and ends in good order."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.logs import configure_logging
from embedstream.service.embedder import Embedder
from embedstream.service.http.app import create_app
from embedstream.service.remote.metrics import RemoteMetrics
from embedstream.web.door import Door
from embedstream.web.serving import STOP_SIGNALS, end_with_parent, start_thread

if TYPE_CHECKING:
    from pathlib import Path

    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

_THREADS = 64
"""Requests that are read and tokenised at a time."""
_FULL_BODIES = 64
"""Bodies of full size that are held at a time; of small ones there may be many more."""
_ANSWER_SECONDS = 3.0


def start_worker(settings: Settings, refusal: Path) -> Door:
    """The application, which says `loading` while a thread of this process downloads and loads the model.

    Why it cannot be loaded is written to the file `refusal`, for the process that waits for this one.

    Call it with STOP_SIGNALS blocked in every thread: `_stop_when_told` waits for them.
    """
    configure_logging(settings.log_level)
    embedder = Embedder(queue_texts=settings.embedding_queue_texts, requests=settings.embedding_max_requests)
    door = Door(
        create_app(embedder, settings),
        threads=_THREADS,
        read_seconds=settings.embedding_read_seconds,
        max_body=settings.embedding_max_request_bytes,
        max_held=(settings.embedding_max_requests or _FULL_BODIES) * settings.embedding_max_request_bytes,
    )
    start_thread(end_with_parent)
    start_thread(_stop_when_told, embedder, door, settings.embedding_drain_seconds)
    start_thread(_load, embedder, settings, refusal)
    return door


def _stop_when_told(embedder: Embedder, door: Door, seconds: float) -> None:
    """Finish what was accepted while the server still answers, then let the signal through to the server."""
    number = signal.sigwait(STOP_SIGNALS)
    if embedder.status == "loading":
        os._exit(0)
    started = time.monotonic()
    finished = embedder.drain(seconds)
    door.wait_until_answered(_ANSWER_SECONDS)
    logger.info(
        "drained" if finished else "gave up draining",
        extra={"seconds": round(time.monotonic() - started, 3)},
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.raise_signal(number)


def _load(embedder: Embedder, settings: Settings, refusal: Path) -> None:
    started = time.monotonic()
    try:
        if settings.embedding_engine == "remote":
            _open_remote(embedder, settings)
        else:
            _load_engine(embedder, settings)
    except ConfigError as exc:
        logger.error("%s", exc)  # noqa: TRY400 - the sentence says it all
        refusal.write_text(str(exc), encoding="utf-8")
        os._exit(2)
    except Exception:
        logger.exception("the model cannot be loaded")
        os._exit(1)
    engine, facts = embedder.engine, embedder.facts
    logger.info(
        "ready",
        extra={
            "model": facts.model_name,
            "revision": facts.model_revision,
            "dimension": facts.embedding_dimension,
            "threads": engine.workers,
            "port": settings.embedding_port,
            "seconds": round(time.monotonic() - started, 3),
        },
    )


def _load_engine(embedder: Embedder, settings: Settings) -> None:
    from embedstream.service.engine.loading import load_engine  # noqa: PLC0415 - a gateway has no engine's libraries

    embedder.start(load_engine(settings, embedder.progress))


def _open_remote(embedder: Embedder, settings: Settings) -> None:
    """Wait until the remote server answers as it should; meanwhile `/health` says why it does not."""
    from embedstream.service.remote.opening import open_patiently  # noqa: PLC0415 - as above

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for each request

    def tell(why: str) -> None:
        embedder.why_loading = why

    opened = open_patiently(settings, embedder.requests, embedder.metrics.count_batch, tell)
    embedder.metrics.add(RemoteMetrics(opened.gateway))
    embedder.start_remote(opened)
