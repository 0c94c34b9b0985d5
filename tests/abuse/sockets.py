"""Many sockets at once."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import sys
from collections.abc import Iterator

from http2 import Connection

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def address(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


@contextlib.contextmanager
def descriptors_for(count: int) -> Iterator[int]:
    """Opens up to `count` connections, as many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        room = sys.maxsize if hard == resource.RLIM_INFINITY else hard
        yield min(count, room - 500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def close_all(clients: list[Connection] | list[socket.socket]) -> None:
    while clients:
        client = clients.pop()
        raw = client.socket if isinstance(client, Connection) else client
        # A reset on close, so ports do not stay in TIME_WAIT.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        raw.close()
