"""More connections than a listener accepts: the idle ones make room, and nobody is locked out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from abused import ENCODER, Service, kill, start
from certificates import self_signed
from http2 import Connection, call_headers, message
from reflection import ReflectionClient

MAX = 64
SETTINGS = (
    f'listen = "{{grpc}}"\nmax_connections = {MAX}\n[http]\nlisten = "{{http}}"\nmax_connections = {MAX}\n[encoder]\nsessions = 1\n'
)


@pytest.fixture(params=["plain", "tls"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    service = start(tmp_path, "encoder-svc", SETTINGS, self_signed(tmp_path) if request.param == "tls" else None)
    try:
        yield service
        service.assert_no_panic()
    finally:
        kill(service)


def is_served(service: Service, listener: str) -> None:
    if listener == "http":
        assert service.get("/livez") == 200
        return
    with service.channel() as channel:
        ReflectionClient(channel).call(ENCODER, "Encode", timeout=10, texts=["A storm is coming."])


@pytest.mark.parametrize("listener", ["grpc", "http"])
def test_idle_connections_make_room_for_new_ones(encoder: Service, listener: str) -> None:
    before = encoder.descriptors()
    clients = [encoder.connect(listener) for _ in range(4 * MAX)]
    try:
        is_served(encoder, listener)
        # One connection may still be closing.
        open_now = encoder.descriptors() - before
        closed = sum(client.is_closed(0.01) for client in clients)
        print(f"{closed} of {len(clients)} idle connections were closed; {open_now} descriptors more")
        assert closed >= 2 * MAX
        assert not clients[-1].is_closed(0.1), "expected the latest connections to stay"
    finally:
        for client in clients:
            client.socket.close()


def test_connection_with_a_stream_that_works_is_not_closed(encoder: Service) -> None:
    """A client in the middle of a stream keeps its connection while idle ones come and go."""
    with encoder.channel() as channel:
        items = ({"id": str(number), "text": f"storm {number}"} for number in range(300))
        replies = ReflectionClient(channel).stream(ENCODER, "EncodeStream", items, timeout=60)
        count, clients = 0, list[Connection]()
        try:
            for _ in replies:
                count += 1
                clients.append(encoder.connect("grpc"))
        finally:
            for client in clients:
                client.socket.close()
    assert count == 300


def test_calls_that_wait_for_their_clients_do_not_lock_others_out(encoder: Service) -> None:
    """Every connection has an open call, of which the message never ends."""
    clients = [encoder.connect("grpc") for _ in range(MAX)]
    try:
        for client in clients:
            client.open(1, call_headers(f"/{ENCODER}/Encode"))
            client.body(1, message(b"", announced=100) + b" ")
        is_served(encoder, "grpc")
    finally:
        for client in clients:
            client.socket.close()
