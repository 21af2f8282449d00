"""Runs the embedding service: this process watches over one worker process, which owns the engine."""

from __future__ import annotations

import logging
import os
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING

from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from embedstream.errors import ConfigError
from embedstream.logs import configure_logging
from embedstream.service.model import fake_dimension, find_model

if TYPE_CHECKING:
    from embedstream.web.door import Door
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

_KILL_SECONDS = 5

# Granian's own lines join ours, and only where something is wrong.
_LOGGING = {"incremental": True, "handlers": {}, "loggers": {"_granian": {"level": "ERROR"}}}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; then finish what was accepted, for at most EMBEDDING_DRAIN_SECONDS.

    While the model is loaded, /health answers 503. Where the worker process ends by itself, SystemExit(1) is raised.

    Raises ConfigError if there is no such model, or the port cannot be had.
    """
    if fake_dimension(settings.embedding_model) is None:
        find_model(settings.embedding_model, any_network=settings.embedding_engine != "openvino")
    with _claim(settings.embedding_host, settings.embedding_port) as claim:
        address = claim.getsockname()[0]
        server = Granian(
            "embedstream.service",
            address=address,
            port=settings.embedding_port,
            interface=Interfaces.ASGINL,
            websockets=False,
            workers=1,
            backlog=2048,
            # Connections, also those that are idle: beyond it nobody is let in, not even to ask how the service is.
            backpressure=8192,
            http1_settings=HTTP1Settings(header_read_timeout=round(1000 * settings.embedding_read_seconds)),
            workers_kill_timeout=settings.embedding_drain_seconds + _KILL_SECONDS,
            log_level=LogLevels.error,
            log_dictconfig=_LOGGING,
        )
        # Granian would reload the worker, and go on after its terminal is gone.
        server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
        configure_logging(settings.log_level)
        logger.info("starting", extra={"address": address, "port": settings.embedding_port, "pid": os.getpid()})
        server.serve(target_loader=partial(_load_application, settings), wrap_loader=False)


def _load_application(settings: Settings) -> Door:
    # In the worker, and before the imports, because they start threads, which inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    from embedstream.service.worker import start_worker  # noqa: PLC0415 - see above

    return start_worker(settings)


def _claim(host: str, port: int) -> socket.socket:
    """A bound socket that keeps other servers off the port, but not the worker.

    The worker binds with SO_REUSEPORT, which lets any number of servers of one user share a port unnoticed. Bound
    without that option, this socket is refused where anybody has the port; given it afterwards, it lets the worker in.
    It never listens, so no connection comes here.
    """
    try:
        family, _, _, _, address = _resolve(host, port)
        claim = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigError(f"EMBEDDING_HOST {host} cannot be resolved: {exc}") from exc
    try:
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim.bind(address)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as exc:
        claim.close()
        raise ConfigError(f"cannot listen on {host}:{port} ({exc.strerror}): free it, or set EMBEDDING_PORT") from exc
    return claim


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[object, ...]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return min(found, key=lambda one: one[0] != socket.AF_INET)
