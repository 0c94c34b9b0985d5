"""Exceptions: one class for each kind of failure that a caller can act on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from movieclassifier import status_pb2


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One invalid field of a request."""

    field: str
    """Its path in the request, such as `overview` or `movies[3].overview`."""
    description: str
    """The expectation, and the value found."""


class ServiceError(Exception):
    """A failed call, or in a stream a movie or text that failed.

    Attributes:
        code: the gRPC code.
        reason: the reason for programs, in `UPPER_SNAKE_CASE`; `docs/api.md` lists them. The name of the code if the
            service sent none, for example because it could not be reached.
        message: a description for people.
        violations: the invalid fields of the request.
        retry_after: seconds after which the service expects a retry to succeed; None if it did not say.
        index: position of the movie or text in the input, from 0; None if the whole call failed.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
        index: int | None = None,
    ) -> None:
        # All of them, so that pickle can rebuild the exception in another process.
        super().__init__(code, message, reason, violations, retry_after, index)
        self.code = code
        self.message = message
        self.reason = reason or code.name
        self.violations = violations
        self.retry_after = retry_after
        self.index = index

    def __str__(self) -> str:
        place = "" if self.index is None else f"movie or text {self.index}: "
        return f"{place}{self.reason}: {self.message}"


class InvalidRequest(ServiceError):
    """The request is invalid, and a retry fails too: `INVALID_ARGUMENT`. `violations` name the fields."""


class Unauthenticated(ServiceError):
    """The API key is missing or unknown: `UNAUTHENTICATED`."""


class RateLimited(ServiceError):
    """A limit of the API key or of the service is reached: `RESOURCE_EXHAUSTED`. Retry after `retry_after`."""


class Unavailable(ServiceError):
    """The service is overloaded, restarts or cannot be reached, also after retries: `UNAVAILABLE`."""


class DeadlineExceeded(ServiceError):
    """The deadline passed before the response was there: `DEADLINE_EXCEEDED`."""


class FailedPrecondition(ServiceError):
    """Parts of the system do not belong together: `FAILED_PRECONDITION`. Its operator must act."""


class InternalError(ServiceError):
    """A defect of the service: `INTERNAL`."""


CLASSES: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimited,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.INTERNAL: InternalError,
}
CODES = {code.value[0]: code for code in grpc.StatusCode}


def error_of(code: grpc.StatusCode, message: str, reason: str = "", **details: Any) -> ServiceError:
    """Returns the exception of a code."""
    return CLASSES.get(code, ServiceError)(code, message, reason, **details)


def call_error(failure: grpc.RpcError | grpc.aio.AioRpcError) -> ServiceError:
    """Returns the exception of a failed call, with the details that the service sent."""
    # Errors of calls have these methods; grpcio's type of them does not.
    code = getattr(failure, "code", lambda: None)() or grpc.StatusCode.UNKNOWN
    message = getattr(failure, "details", lambda: None)() or ""
    trailers = getattr(failure, "trailing_metadata", lambda: None)() or ()
    sent = next((value for key, value in trailers if key == "grpc-status-details-bin"), b"")
    with contextlib.suppress(DecodeError):
        return error_of(code, message, **_details(sent))
    return error_of(code, message)


def _details(sent: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for detail in status_pb2.Status.FromString(sent).details:
        match detail.type_url.rpartition("/")[2]:
            case "google.rpc.ErrorInfo":
                found["reason"] = status_pb2.ErrorInfo.FromString(detail.value).reason
            case "google.rpc.BadRequest":
                request = status_pb2.BadRequest.FromString(detail.value)
                found["violations"] = tuple(FieldViolation(v.field, v.description) for v in request.field_violations)
            case "google.rpc.RetryInfo":
                delay = status_pb2.RetryInfo.FromString(detail.value).retry_delay
                found["retry_after"] = delay.seconds + delay.nanos / 1e9
    return found
