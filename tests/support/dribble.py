"""Clients that send their requests a byte at a time."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


def dribbling(port: int, count: int, sent: bytes = HEAD) -> list[socket.socket]:
    """So many connections, each with the beginning of a request."""
    clients = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(count)]
    for client in clients:
        client.sendall(sent)
        client.settimeout(20)
    return clients


def dribble(clients: list[socket.socket]) -> Iterator[socket.socket]:
    """Send a byte on each, and give those that the other side has hung up on."""
    for client in clients:
        try:
            client.sendall(b"x")
        except OSError:
            yield client
