"""Small helpers of tests that run programs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


def wait_for(is_true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < end, f"expected within 60 s: {what}"
        time.sleep(0.1)
