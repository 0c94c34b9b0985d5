"""A gRPC client without the .proto files: all types come from the server's reflection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class _WithHeaders(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, headers: tuple[tuple[str, str], ...]) -> None:
        self._headers = headers

    def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or []), *self._headers]
        return continuation(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_stream_stream = _intercept


def with_key(channel: grpc.Channel, key: str) -> grpc.Channel:
    """Returns a channel that sends an API key with every call."""
    return grpc.intercept_channel(channel, _WithHeaders((("authorization", f"Bearer {key}"),)))


class ReflectionClient:
    """Calls methods by name with message fields as keyword arguments."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = descriptor_pool.DescriptorPool(self._database)

    def services(self) -> list[str]:
        return sorted(self._database.get_services())

    def method(self, service: str, name: str) -> tuple[str, Any, Any]:
        """Returns a method's path and the classes of its request and response."""
        descriptor = self._pool.FindServiceByName(service).methods_by_name[name]
        request = message_factory.GetMessageClass(descriptor.input_type)
        response = message_factory.GetMessageClass(descriptor.output_type)
        return f"/{service}/{name}", request, response

    def call(self, service: str, method: str, timeout: float = 60, **fields: Any) -> Any:
        path, request, response = self.method(service, method)
        invoke = self._channel.unary_unary(path, request.SerializeToString, response.FromString)
        return invoke(request(**fields), timeout=timeout)

    def stream(self, service: str, method: str, items: Iterable[dict[str, Any]], timeout: float = 60) -> Iterator[Any]:
        """Sends a stream of `items` and yields the responses as they arrive."""
        path, request, response = self.method(service, method)
        invoke = self._channel.stream_stream(path, request.SerializeToString, response.FromString)
        responses: Iterator[Any] = invoke((request(**item) for item in items), timeout=timeout)
        return responses
