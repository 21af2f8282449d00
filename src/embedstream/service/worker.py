"""The process that owns the engine: it answers from its first moment, loads the model, and ends in good order."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.logs import configure_logging
from embedstream.service.app import create_app
from embedstream.service.embedder import Embedder
from embedstream.service.loading import load_engine
from embedstream.service.server import STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from embedstream.settings import Settings

logger = logging.getLogger(__name__)


def start_worker(settings: Settings, requests: int) -> Flask:
    """The application, which says `loading` while a thread of this process loads the model.

    `requests` may wait for vectors at a time.

    Call it with STOP_SIGNALS blocked in every thread: `_stop_when_told` waits for them.
    """
    configure_logging(settings.log_level)
    embedder = Embedder(queue_texts=settings.embedding_queue_texts, requests=requests)
    _start_thread(_end_with_parent)
    _start_thread(_stop_when_told, embedder, settings.embedding_drain_seconds)
    _start_thread(_load, embedder, settings)
    return create_app(embedder, settings)


def _start_thread(target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, name=target.__name__.strip("_"), daemon=True).start()


def _end_with_parent() -> None:
    """Leave no orphan, even if the parent was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _stop_when_told(embedder: Embedder, seconds: float) -> None:
    """Finish what was accepted while the server still answers, then let the server's own handler stop it."""
    number = signal.sigwait(STOP_SIGNALS)
    if embedder.status == "loading":
        os._exit(0)
    started = time.monotonic()
    finished = embedder.drain(seconds)
    logger.info(
        "drained" if finished else "gave up draining",
        extra={"seconds": round(time.monotonic() - started, 3)},
    )
    handler = signal.getsignal(number)
    if callable(handler):
        handler(number, None)


def _load(embedder: Embedder, settings: Settings) -> None:
    started = time.monotonic()
    try:
        engine = load_engine(settings)
        embedder.start(engine)
    except ConfigError as exc:
        logger.error("%s", exc)  # noqa: TRY400 - the sentence says it all
        os._exit(2)
    except Exception:
        logger.exception("the model cannot be loaded")
        os._exit(1)
    logger.info(
        "ready",
        extra={
            "model": engine.facts.model_name,
            "revision": engine.facts.model_revision,
            "dimension": engine.facts.embedding_dimension,
            "threads": engine.workers,
            "port": settings.embedding_port,
            "seconds": round(time.monotonic() - started, 3),
        },
    )
