"""Loopback ports for the parts of a stack."""

from __future__ import annotations

import random
import socket

from embedstream.errors import ConfigError

LOOPBACK = "127.0.0.1"

# Below the range that kernels hand out to outgoing connections, so that a part that is
# restarted finds its port as free as it left it.
FIRST, LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do it: connections that linger from an earlier run are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(*, avoid: frozenset[int] = frozenset()) -> int:
    candidates = (port for port in random.sample(range(FIRST, LAST), LAST - FIRST) if port not in avoid)
    port = next((port for port in candidates if is_free(port)), None)
    if port is None:
        raise ConfigError(f"no free port on {LOOPBACK} between {FIRST} and {LAST}")
    return port


def choose_port(name: str, *, wanted: int | None, last: int | None, avoid: frozenset[int]) -> int:
    """The port that was asked for, else that of the last run if it is free, else a free one.

    Raises ConfigError if the one that was asked for is taken.
    """
    if wanted is not None:
        if not is_free(wanted):
            raise ConfigError(f"port {wanted} for {name} is in use on {LOOPBACK}")
        return wanted
    if last is not None and last not in avoid and is_free(last):
        return last
    return free_port(avoid=avoid)
