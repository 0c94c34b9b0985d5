"""Handshakes of TLS that do not end."""

from __future__ import annotations

import socket
import statistics
import time

import pytest
from abused import Pair, Service, pair  # noqa: F401
from sockets import address, close_all, descriptors_for

# The first bytes of a ClientHello: a record of 512 bytes begins.
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00"


def livez(service: Service) -> float:
    begin = time.monotonic()
    assert service.get("/livez", timeout=60) == 200
    return time.monotonic() - begin


@pytest.mark.parametrize("pair", ["tls"], indirect=True)
@pytest.mark.parametrize("listener", ["grpc", "http"])
@pytest.mark.parametrize("said", [b"", HALF_A_HELLO], ids=["silent", "half a hello"])
@pytest.mark.parametrize("count", [300, 1_000])
def test_unfinished_handshakes_delay_nobody(pair: Pair, listener: str, said: bytes, count: int) -> None:  # noqa: F811
    service, clients = pair.classifier, list[socket.socket]()
    with descriptors_for(count):
        try:
            for _ in range(count):
                clients.append(socket.create_connection(address(service.address(listener)), timeout=5))
                clients[-1].sendall(said)
            time.sleep(0.5)
            if listener == "http":
                seconds = [livez(service) for _ in range(3)]
            else:
                begin = time.monotonic()
                pair.classify(timeout=60)
                seconds = [time.monotonic() - begin]
        finally:
            close_all(clients)
    print(f"{listener} beside {count} handshakes: {statistics.median(seconds):.2f} s, slowest {max(seconds):.2f} s")
    assert max(seconds) < 1.5
