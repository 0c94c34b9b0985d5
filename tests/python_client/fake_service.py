"""A classifier that answers each movie with its own overview as the genre, and fails as a test tells it to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from movieclassifier.classifier.v1 import classifier_service_pb2 as wire
from movieclassifier.classifier.v1 import classifier_service_pb2_grpc as service

Request = wire.ClassifyStreamRequest
Responses = Iterator[wire.ClassifyStreamResponse]


def classification(overview: str) -> wire.ClassifyResponse:
    score = wire.GenreScore(label=overview, probability=0.75, threshold=0.5)
    return wire.ClassifyResponse(genres=[score], scores=[score], model_version="fake")


def good(request: Request) -> wire.ClassifyStreamResponse:
    return wire.ClassifyStreamResponse(id=request.id, classification=classification(request.overview))


def bad(request: Request, code: grpc.StatusCode, reason: str) -> wire.ClassifyStreamResponse:
    error = wire.MovieError(code=code.value[0], message="it failed", reason=reason)
    return wire.ClassifyStreamResponse(id=request.id, error=error)


class FakeService(service.ClassifierServiceServicer):
    """Answers. `stream` replaces the handler of streams, and `unary` is called before each other call."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.streams = 0
        self.received: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.stream: Callable[[int, Iterator[Request], grpc.ServicerContext], Responses] = self.plain
        self.unary: Callable[[int, grpc.ServicerContext], None] = lambda number, context: None

    def plain(self, number: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            yield good(request)

    def ClassifyStream(self, requests: Any, context: Any) -> Any:
        with self.lock:
            self.streams += 1
            number = self.streams

        def recorded() -> Iterator[Request]:
            for request in requests:
                self.received.append(request.overview)
                yield request

        yield from self.stream(number, recorded(), context)

    def _record(self, context: Any) -> None:
        with self.lock:
            self.calls.append({"metadata": dict(context.invocation_metadata()), "left": context.time_remaining()})
            number = len(self.calls)
        self.unary(number, context)

    def Classify(self, request: Any, context: Any) -> Any:
        self._record(context)
        return classification(request.overview)

    def BatchClassify(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def GetModel(self, request: Any, context: Any) -> Any:
        self._record(context)
        return wire.GetModelResponse(labels=["Drama"], thresholds=[0.5], model_version="fake")


@contextlib.contextmanager
def serving(fake: FakeService, port: int = 0) -> Iterator[str]:
    """Serves at a free port, or at `port`, and yields the address."""
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 1 << 20)])
    service.add_ClassifierServiceServicer_to_server(fake, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        server.stop(None).wait()
