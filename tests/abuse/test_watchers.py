"""Watches of health, which need no key."""

from __future__ import annotations

from abused import FRESH_OVER_PLAIN_AND_TLS, MIB, Pair, fresh_pair  # noqa: F401
from bounds import growth_bound
from http2 import call_headers, message
from unread import peak

WATCH = call_headers("/grpc.health.v1.Health/Watch")
CONNECTIONS, STREAMS = 30, 200
WATCHES_OF_A_CONNECTION = 8


@FRESH_OVER_PLAIN_AND_TLS
def test_watches_of_health_are_few_on_a_connection(fresh_pair: Pair) -> None:  # noqa: F811
    service = fresh_pair.classifier
    before, clients = service.resident(), []
    try:
        for _ in range(CONNECTIONS):
            client = service.connect("grpc")
            clients.append(client)
            client.pump(0.05)
            for stream in range(1, 2 * min(STREAMS, client.max_streams), 2):
                client.open(stream, WATCH)
                client.body(stream, message(b""), end=True, seconds=1)
            client.pump()
        fresh_pair.assert_others_are_served()
        most = peak(service, clients, 3)
        open_streams = sum(min(STREAMS, client.max_streams) - len(client.ended) for client in clients)
    finally:
        for client in clients:
            client.socket.close()
    print(f"{open_streams} watches remain open: {before / MIB:.0f} -> {most / MIB:.0f} MiB")
    assert open_streams <= CONNECTIONS * WATCHES_OF_A_CONNECTION
    assert most < before + growth_bound(service, CONNECTIONS)
