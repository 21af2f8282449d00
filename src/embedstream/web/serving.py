"""Serves an application over HTTP: this process watches over one worker process, which owns it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from embedstream.errors import ConfigError
from embedstream.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

# Granian's own lines join ours, and only where something is wrong.
_LOGGING = {"incremental": True, "handlers": {}, "loggers": {"_granian": {"level": "ERROR"}}}


class Listening(NamedTuple):
    """Where and how it is listened; `prefix` is that of the settings' variables, `<PREFIX>_HOST` and `<PREFIX>_PORT`.

    A client may take `read_seconds` to send a request's head; a worker that was told to stop has `stop_seconds`. An
    application that `lives` is told of its start and its end (ASGI's lifespan).
    """

    prefix: str
    host: str
    port: int
    read_seconds: float
    stop_seconds: int
    lives: bool = False


def serve(load: Callable[[], Any], listening: Listening, log_level: str) -> None:
    """Serve the ASGI application that `load` makes in the worker, until SIGTERM, SIGINT or SIGHUP.

    Where the worker process ends by itself, SystemExit(1) is raised. Raises ConfigError if the port cannot be had.
    """
    with claim(listening) as claimed:
        address = claimed.getsockname()[0]
        server = Granian(
            "embedstream",
            address=address,
            port=listening.port,
            interface=Interfaces.ASGI if listening.lives else Interfaces.ASGINL,
            websockets=False,
            workers=1,
            backlog=2048,
            # Connections, also those that are idle: beyond it nobody is let in, not even to ask how the service is.
            backpressure=8192,
            http1_settings=HTTP1Settings(header_read_timeout=round(1000 * listening.read_seconds)),
            workers_kill_timeout=listening.stop_seconds,
            log_level=LogLevels.error,
            log_dictconfig=_LOGGING,
        )
        # Granian would reload the worker, and go on after its terminal is gone.
        server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
        configure_logging(log_level)
        logger.info("starting", extra={"address": address, "port": listening.port, "pid": os.getpid()})
        server.serve(target_loader=load, wrap_loader=False)


def claim(listening: Listening) -> socket.socket:
    """A bound socket that keeps other servers off the port, but not the worker.

    The worker binds with SO_REUSEPORT, which lets any number of servers of one user share a port unnoticed. Bound
    without that option, this socket is refused where anybody has the port; given it afterwards, it lets the worker in.
    It never listens, so no connection comes here.
    """
    prefix, host, port, *_ = listening
    try:
        family, _, _, _, address = _resolve(host, port)
        claimed = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigError(f"{prefix}_HOST {host} cannot be resolved: {exc}") from exc
    try:
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claimed.bind(address)
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as exc:
        claimed.close()
        raise ConfigError(f"cannot listen on {host}:{port} ({exc.strerror}): free it, or set {prefix}_PORT") from exc
    return claimed


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[object, ...]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return min(found, key=lambda one: one[0] != socket.AF_INET)


def start_thread(target: Callable[..., None], *args: object) -> None:
    """One that does not keep the process alive."""
    threading.Thread(target=target, args=args, name=target.__name__.strip("_"), daemon=True).start()


def end_with_parent() -> None:
    """Leave no orphan, even if the parent was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
