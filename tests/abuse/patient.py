"""Clients that are deliberately slow or silent, one of each kind, connected during all tests of this folder."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from http2 import CONTINUATION, HEADERS, HELLO, PREFACE, call_headers, fields, frame

if TYPE_CHECKING:
    from abused import Service

CLASSIFY = "/movieclassifier.classifier.v1.ClassifierService/Classify"
HEAD = b"POST /v1/movies:classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
# For each kind of client: the listener, what it sends first, and whether it then sends single bytes of a header.
SILENT = {
    "sends nothing to gRPC": ("grpc", b"", False),
    "sends nothing to HTTP": ("http", b"", False),
    "stops in the preface of gRPC": ("grpc", PREFACE[:7], False),
    "stops in the preface of HTTP": ("http", PREFACE[:7], False),
    "stops after the preface of gRPC": ("grpc", HELLO, False),
    "stops after the preface of HTTP/2 on REST": ("http", HELLO, False),
    "stops in a header of HTTP/1": ("http", HEAD, False),
    "drips a header of HTTP/1": ("http", HEAD + b"x-slow: ", True),
    "stops in the headers of a call": ("grpc", HELLO + frame(HEADERS, fields(call_headers(CLASSIFY)), 0, 1), False),
    "drips the headers of a call": (
        "grpc",
        HELLO + frame(HEADERS, fields(call_headers(CLASSIFY)), 0, 1) + frame(CONTINUATION, bytes(16_000), 0, 1)[:9],
        True,
    ),
}


def protocol(said: bytes) -> str:
    """Returns the protocol that a client offers by ALPN."""
    return "http/1.1" if said.startswith(HEAD) else "h2"


class Patient:
    """Keeps one client of each kind connected to a service."""

    def __init__(self, service: Service) -> None:
        self.began = time.monotonic()
        self.clients = {}
        for name, (listener, said, _) in SILENT.items():
            self.clients[name] = service.connect(listener, protocol=protocol(said), hello=False)
            self.clients[name].send(said)
        threading.Thread(target=self._drip, daemon=True).start()

    def _drip(self) -> None:
        dripping = {name for name, (_, _, drips) in SILENT.items() if drips}
        while dripping:
            dripping = {name for name in dripping if self.clients[name].send(b"a")}
            time.sleep(1)
