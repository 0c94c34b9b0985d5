"""Reads the google.rpc details of a failed call without generated stubs, using only their wire format.

google.rpc.Status {1: code, 2: message, 3: details as google.protobuf.Any}; BadRequest {1: FieldViolation {1: field,
2: description}}; ErrorInfo {1: reason, 2: domain}
(https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto).
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE


def _classes() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(
        name="error_details.proto", package="google.rpc", syntax="proto3", dependency=["google/protobuf/any.proto"]
    )

    def message(name: str, *fields: tuple[str, int, str | None, bool]) -> None:
        added = file.message_type.add(name=name)
        for number, (field, kind, type_name, repeated) in enumerate(fields, 1):
            added.field.add(name=field, number=number, type=kind, type_name=type_name, label=3 if repeated else 1)

    message(
        "Status",
        ("code", _INT32, None, False),
        ("message", _STRING, None, False),
        ("details", _MESSAGE, ".google.protobuf.Any", True),
    )
    message("FieldViolation", ("field", _STRING, None, False), ("description", _STRING, None, False))
    message("BadRequest", ("field_violations", _MESSAGE, ".google.rpc.FieldViolation", True))
    message("ErrorInfo", ("reason", _STRING, None, False), ("domain", _STRING, None, False))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    names = ("Status", "BadRequest", "ErrorInfo")
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{n}")) for n in names}


_CLASSES = _classes()


def details(error: grpc.RpcError) -> dict[str, object]:
    """Returns the details of a failed call, keyed by the short name of their type."""
    trailers = dict(error.trailing_metadata())
    status = _CLASSES["Status"].FromString(trailers["grpc-status-details-bin"])
    found = {}
    for detail in status.details:
        name = detail.type_url.rsplit(".", 1)[-1]
        if name in _CLASSES:
            found[name] = _CLASSES[name].FromString(detail.value)
    return found
