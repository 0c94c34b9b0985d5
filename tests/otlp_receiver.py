"""A trace collector that keeps every span it receives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services


@dataclass(frozen=True)
class Span:
    """The fields of a span that tests use."""

    service: str
    name: str
    trace: str
    id: str
    parent: str


@dataclass
class Receiver(services.TraceServiceServicer):
    """Serves `TraceService/Export`."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 (the name of the RPC)
        del context
        with self.lock:
            for resource in request.resource_spans:
                attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                        self.spans.append(Span(attributes["service.name"], span.name, *ids))
        return messages.ExportTraceServiceResponse()

    def wait_for(self, condition: Callable[[list[Span]], bool], seconds: float = 20) -> list[Span]:
        """Waits until the condition holds and returns all spans."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self.lock:
                spans = list(self.spans)
            if condition(spans):
                return spans
            time.sleep(0.05)
        raise AssertionError(f"expected other spans, found: {spans}")


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Runs a collector on a free port."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    port = server.add_insecure_port("127.0.0.1:0")
    running = Receiver(f"http://127.0.0.1:{port}")
    services.add_TraceServiceServicer_to_server(running, server)
    server.start()
    try:
        yield running
    finally:
        server.stop(1).wait()
