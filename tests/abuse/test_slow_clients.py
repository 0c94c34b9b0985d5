"""Deliberately slow or silent clients, which each hold a connection and must not delay other calls."""

from __future__ import annotations

import socket
import time

import pytest
from abused import MIB, OVER_PLAIN_AND_TLS, REST_TIMEOUT_SECONDS, Pair, pair  # noqa: F401
from http2 import END_HEADERS, HEADERS, call_headers, fields, frame
from patient import CLASSIFY, HEAD, SILENT, protocol

EACH = 100


@OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("kind", SILENT)
def test_slow_clients_delay_no_call(pair: Pair, kind: str) -> None:  # noqa: F811
    listener, said, drips = SILENT[kind]
    before = pair.classifier.resident()
    clients = [pair.classifier.connect(listener, protocol=protocol(said), hello=False) for _ in range(EACH)]
    try:
        for client in clients:
            client.send(said)
        for _ in range(2):
            for client in clients:
                if drips:
                    client.send(b"a")
            pair.assert_others_are_served()
        assert not any(client.is_closed(0.001) for client in clients), "expected the clients to stay connected"
        assert pair.classifier.resident() - before < 16 * MIB
    finally:
        for client in clients:
            client.socket.close()


def test_missing_body_times_out(pair: Pair) -> None:  # noqa: F811
    """The setting rest.timeout_seconds limits the duration of a request."""
    host, port = pair.classifier.http.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as client:
        client.sendall(HEAD + b"content-length: 100\r\n\r\n{")
        client.settimeout(REST_TIMEOUT_SECONDS + 2)
        try:
            said = client.recv(4096)
        except TimeoutError:
            pytest.fail(f"no response after {REST_TIMEOUT_SECONDS + 2} s")
    assert b" 408 " in said or b" 504 " in said or said == b"", said


def test_deadline_ends_a_call_without_message(pair: Pair) -> None:  # noqa: F811
    with pair.classifier.connect("grpc") as connection:
        headers = fields(call_headers(CLASSIFY, ("grpc-timeout", "500m")))
        connection.send(frame(HEADERS, headers, END_HEADERS, 1))
        begin = time.monotonic()
        response = connection.response(1)
        assert response.status == 4, response
        assert time.monotonic() - begin < 2
