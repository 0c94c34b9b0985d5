"""Requests with long replies, from a client that reads none of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from abused import CLASSIFIER, ENCODER, Pair, Service
from http2 import INITIAL_WINDOW_SIZE, Connection, call_headers, get_headers, message, post_headers

STREAMS = 200
BATCH = 256
MOVIES = json.dumps({"movies": [{"overview": "a"}] * BATCH, "include_scores": True}).encode()
MOVIES_MESSAGE = message(b"\x0a\x03\x12\x01a" * BATCH + b"\x10\x01")
TEXTS = json.dumps({"model": "minilm-512", "input": ["a"] * BATCH}).encode()
TEXTS_MESSAGE = message(b"\x0a\x01a" * BATCH)


@dataclass(frozen=True)
class Unread:
    """One request, sent on many streams of a few connections."""

    service: str
    listener: str
    headers: list[tuple[str, str]]
    body: bytes
    connections: int

    def attacked(self, pair: Pair) -> Service:
        return pair.encoder if self.service == "encoder" else pair.classifier

    def open(self, pair: Pair, *more: tuple[str, str]) -> Connection:
        """Sends the request, with `more` headers, on every stream of a connection whose replies may not begin."""
        connection = self.attacked(pair).connect(self.listener, settings={INITIAL_WINDOW_SIZE: 0})
        connection.pump(0.1)
        # More than the service permits would only end the connection.
        for stream in range(1, 2 * min(STREAMS, connection.max_streams), 2):
            if not connection.open(stream, [*self.headers, *more], end=not self.body):
                break
            if self.body and connection.body(stream, self.body, end=True, seconds=1) < len(self.body):
                # The service takes no more.
                break
            # Keeps the service's own frames from filling the socket.
            connection.pump()
        return connection


UNREAD = {
    "metrics of the encoder": Unread("encoder", "http", get_headers("/metrics"), b"", 60),
    "metrics of the classifier": Unread("classifier", "http", get_headers("/metrics"), b"", 60),
    "openapi.json": Unread("classifier", "http", get_headers("/openapi.json"), b"", 60),
    "batchClassify": Unread("classifier", "http", post_headers("/v1/movies:batchClassify"), MOVIES, 4),
    "BatchClassify": Unread("classifier", "grpc", call_headers(f"/{CLASSIFIER}/BatchClassify"), MOVIES_MESSAGE, 2),
    "embeddings": Unread("encoder", "http", post_headers("/v1/embeddings"), TEXTS, 4),
    "Encode": Unread("encoder", "grpc", call_headers(f"/{ENCODER}/Encode"), TEXTS_MESSAGE, 2),
}


def peak(service: Service, connections: list[Connection], seconds: float) -> int:
    """Returns the largest resident memory within `seconds`, while the clients only reply to PINGs and SETTINGS."""
    most, end = service.resident(), time.monotonic() + seconds
    while time.monotonic() < end:
        for connection in connections:
            connection.pump()
        most = max(most, service.resident())
        time.sleep(0.1)
    return most
