"""Clients of the servers: they send a prepared request, and read a reply without parsing it, which would take time from the
server on the same cores. `vectors` parses a reply."""

from __future__ import annotations

import collections
import contextlib
import functools
import http.client
import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The messages as of the last release, which every later version understands.
DESCRIPTORS = Path(__file__).resolve().parents[2] / "proto" / "released.binpb"
# An encoder gives each connection the same share, so load comes over as many as a few callers have.
CHANNELS = 4
# Enough to keep all cores of a machine with a few of them busy.
STREAM_IN_FLIGHT = 64
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)


class CallError(Exception):
    """A call that returned no vectors."""


class RejectedError(CallError):
    """The server had too much to do and said so."""


class LateError(CallError):
    """The deadline passed."""


class StaleError(Exception):
    """The server had closed an idle connection."""


class Client(Protocol):
    """Sends texts to one server."""

    def request(self, texts: Sequence[str], *, bulk: bool = False) -> bytes:
        """Returns the request for `texts`. `bulk` says that nobody waits for it, where a server can tell."""

    def call(self, request: bytes, timeout: float) -> bytes:
        """Returns the reply. Raises RejectedError, LateError or CallError."""

    def vectors(self, reply: bytes) -> list[list[float]]:
        """Returns the reply's vectors, one per text."""

    def close(self) -> None:
        """Closes all connections."""


class HttpClient:
    """Posts JSON, each call in flight on a connection of its own that later calls reuse."""

    def __init__(
        self, port: int, path: str, body: Callable[[list[str]], object], vectors: Callable[[Any], list[list[float]]]
    ) -> None:
        self._port, self._path, self._body, self._vectors = port, path, body, vectors
        self._idle: collections.deque[http.client.HTTPConnection] = collections.deque()

    def request(self, texts: Sequence[str], *, bulk: bool = False) -> bytes:
        del bulk
        return json.dumps(self._body(list(texts))).encode()

    def call(self, request: bytes, timeout: float) -> bytes:
        with contextlib.suppress(IndexError, StaleError):
            return self._exchange(self._idle.pop(), request, timeout, reused=True)
        return self._exchange(http.client.HTTPConnection("127.0.0.1", self._port), request, timeout, reused=False)

    def _exchange(self, connection: http.client.HTTPConnection, request: bytes, timeout: float, *, reused: bool) -> bytes:
        try:
            status, reply = self._post(connection, request, timeout)
        except TimeoutError as error:
            connection.close()
            raise LateError(f"no reply within {timeout:.1f} s") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if reused:
                # The others have been idle for as long or longer.
                self.close()
                raise StaleError from error
            raise CallError(f"{type(error).__name__}: {error}") from error
        self._idle.append(connection)
        if status in (429, 503):
            raise RejectedError(f"HTTP {status}")
        if status in (408, 504):
            raise LateError(f"HTTP {status}")
        if status != 200:
            raise CallError(f"HTTP {status}: {reply[:200]!r}")
        return reply

    def _post(self, connection: http.client.HTTPConnection, request: bytes, timeout: float) -> tuple[int, bytes]:
        connection.timeout = timeout
        if connection.sock:
            connection.sock.settimeout(timeout)
        connection.request("POST", self._path, request, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()

    def vectors(self, reply: bytes) -> list[list[float]]:
        return self._vectors(json.loads(reply))

    def close(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


class GrpcClient:
    """Calls one unary method over a few connections in turns."""

    def __init__(self, port: int, method: str) -> None:
        self._channels = [grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) for _ in range(CHANNELS)]
        self._turns = itertools.cycle(channel.unary_unary(method) for channel in self._channels)
        self._lock = threading.Lock()

    def call(self, request: bytes, timeout: float) -> bytes:
        with self._lock:
            method = next(self._turns)
        try:
            return bytes(method(request, timeout=timeout))
        except grpc.RpcError as error:
            raise of_status(error) from error

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


class EncoderClient(GrpcClient):
    """Calls encoder-svc."""

    SERVICE = "/movieclassifier.encoder.v1.EncoderService"

    def __init__(self, port: int) -> None:
        super().__init__(port, f"{self.SERVICE}/Encode")
        names = ("EncodeRequest", "EncodeResponse", "EncodeStreamRequest", "EncodeStreamResponse")
        self._request, self._response, self._item, self._result = (message(f"encoder.v1.{name}") for name in names)
        self._stream = self._channels[0].stream_stream(f"{self.SERVICE}/EncodeStream")

    def request(self, texts: Sequence[str], *, bulk: bool = False) -> bytes:
        return bytes(self._request(texts=texts, priority=2 if bulk else 1).SerializeToString())

    def vectors(self, reply: bytes) -> list[list[float]]:
        return [list(one.values) for one in self._response.FromString(reply).embeddings]

    def stream(self, texts: Sequence[str], seconds: float) -> Iterator[float]:
        """Sends `texts` over and over for `seconds` in one bulk stream. Yields the time of each reply with a vector."""
        requests = [bytes(self._item(text=text, priority=2).SerializeToString()) for text in texts]
        end = time.monotonic() + seconds
        # Bounds the texts on their way, because gRPC in Python reads ahead of what the server accepts.
        places: queue.Queue[None] = queue.Queue(STREAM_IN_FLIGHT)

        def sent() -> Iterator[bytes]:
            for request in itertools.cycle(requests):
                if time.monotonic() > end:
                    return
                places.put(None, timeout=60)
                yield request

        try:
            for reply in self._stream(sent(), timeout=seconds + 60):
                places.get_nowait()
                now = time.monotonic()
                # A vector takes more bytes than the error that a reply may have instead. What is rejected is not counted.
                if len(reply) < 1024 and (error := self._result.FromString(reply).error).code:
                    if error.code == grpc.StatusCode.UNAVAILABLE.value[0]:
                        continue
                    raise CallError(f"{error.reason}: {error.message}")
                yield now
        except grpc.RpcError as error:
            raise of_status(error) from error


class ClassifierClient(GrpcClient):
    """Calls classifier-svc. The scores of all genres stand for a vector."""

    def __init__(self, port: int) -> None:
        method = "/movieclassifier.classifier.v1.ClassifierService/BatchClassify"
        super().__init__(port, method)
        names = ("Movie", "BatchClassifyRequest", "BatchClassifyResponse")
        self._movie, self._request, self._response = (message(f"classifier.v1.{name}") for name in names)

    def request(self, texts: Sequence[str], *, bulk: bool = False) -> bytes:
        del bulk
        movies = [self._movie(overview=text) for text in texts]
        return bytes(self._request(movies=movies, include_scores=True).SerializeToString())

    def vectors(self, reply: bytes) -> list[list[float]]:
        results = self._response.FromString(reply).results
        return [[score.probability for score in result.scores] for result in results]


@functools.cache
def descriptors() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool


def message(name: str) -> Any:
    """Returns the class of a message, such as `encoder.v1.EncodeRequest`."""
    return message_factory.GetMessageClass(descriptors().FindMessageTypeByName(f"movieclassifier.{name}"))


def of_status(error: grpc.RpcError) -> CallError:
    code = error.code()
    words = f"{code.name}: {error.details()}"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return RejectedError(words)
    return LateError(words) if code is grpc.StatusCode.DEADLINE_EXCEEDED else CallError(words)


def closed(client: Client) -> contextlib.AbstractContextManager[Client]:
    return contextlib.closing(client)
