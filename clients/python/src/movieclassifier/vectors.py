"""The client of encoder-svc: texts to vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc

from movieclassifier._channel import Connection, Tls, metadata_of
from movieclassifier.encoder.v1 import encoder_service_pb2 as wire
from movieclassifier.encoder.v1 import encoder_service_pb2_grpc as service
from movieclassifier.errors import FailedPrecondition, call_error
from movieclassifier.results import not_a_text

if TYPE_CHECKING:
    from grpc import _CallFuture

    Call: TypeAlias = _CallFuture[wire.EncodeResponse]

try:
    import numpy as np
    from numpy.typing import NDArray
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("Encoder needs numpy: pip install 'movieclassifier[numpy]'") from missing

# Bounds a batch beside the service's `max_batch_size`, so that long texts do not exceed its largest message.
LARGEST_BATCH_BYTES = 1 << 20
# Batches in flight: one runs while the next waits.
IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The encoder that the service runs, and its limits."""

    id: str
    """The bundle's name, such as `minilm-512`."""
    version: str
    fingerprint: str
    """SHA-256 over the bundle, in 64 hexadecimal digits. Vectors of different fingerprints must never be mixed."""
    dimension: int
    """Number of floats in a vector."""
    max_tokens: int
    """The end of a longer text is ignored."""
    max_batch_size: int
    max_text_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The vectors of `n` texts, in order."""

    values: NDArray[np.float32]
    """Shape (n, dimension)."""
    token_counts: NDArray[np.int32]
    """Shape (n,). Encoded tokens, including the two special ones."""
    truncated: NDArray[np.bool_]
    """Shape (n,). Whether the end of the text was ignored."""
    fingerprint: str
    """The encoder that computed them."""


class Encoder:
    """A connection to encoder-svc. The arguments are those of `Classifier`; `deadline` is for each batch."""

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        tls: Tls | bool = False,
        api_key: str | None = None,
        deadline: float = 60.0,
    ) -> None:
        self._deadline = deadline
        self._metadata = metadata_of(api_key)
        self._channel = Connection.to(address, tls).channel()
        self._stub = service.EncoderServiceStub(self._channel)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Calls that are open fail."""
        self._channel.close()

    def info(self) -> EncoderInfo:
        """Describes the encoder. Raises ServiceError."""
        try:
            found = self._stub.GetEncoder(wire.GetEncoderRequest(), timeout=self._deadline, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise call_error(failure) from failure
        return EncoderInfo(
            found.id,
            found.version,
            found.fingerprint,
            found.dimension,
            found.max_tokens,
            found.max_batch_size,
            found.max_text_bytes,
        )

    def encode(self, texts: Iterable[str], *, bulk: bool = False) -> NDArray[np.float32]:
        """Returns the vectors of the texts: an array of shape (n, dimension), of float32, in the order of the texts.

        Args:
            texts: any number of texts, none of them blank.
            bulk: let online calls of others go first. For jobs.

        Raises:
            InvalidRequest: a text is blank or too long. `violations` name it by its place in its batch, and `index` is
                the place of the batch's first text in `texts`.
            FailedPrecondition: the encoder changed in between, and vectors of different encoders must not be mixed.
            ServiceError: the call failed; its subclasses say how.
        """
        not_a_text(texts)
        info = self.info()
        batches = [batch.values for batch in self._encode(texts, info, bulk)]
        return np.concatenate(batches) if batches else np.empty((0, info.dimension), np.float32)

    def encode_many(self, texts: Iterable[str], *, bulk: bool = True) -> Iterator[Vectors]:
        """Returns the vectors of any number of texts batch by batch, in order and in bounded memory.

        Args:
            texts: as in `encode`. It is read two batches ahead of the result that was taken last.
            bulk: let online calls of others go first.

        Raises:
            ServiceError: as in `encode`.
        """
        not_a_text(texts)
        return self._encode(texts, self.info(), bulk)

    def _encode(self, texts: Iterable[str], info: EncoderInfo, bulk: bool) -> Iterator[Vectors]:
        priority = wire.PRIORITY_BULK if bulk else wire.PRIORITY_ONLINE
        calls: list[tuple[int, Call]] = []
        begin = 0
        try:
            for batch in _batches(texts, info.max_batch_size):
                request = wire.EncodeRequest(texts=batch, priority=priority)
                call = self._stub.Encode.future(request, timeout=self._deadline, metadata=self._metadata)
                calls.append((begin, call))
                begin += len(batch)
                if len(calls) == IN_FLIGHT:
                    yield _vectors(*calls.pop(0), info)
            while calls:
                yield _vectors(*calls.pop(0), info)
        finally:
            for _, call in calls:
                call.cancel()


def _batches(texts: Iterable[str], most_texts: int) -> Iterator[list[str]]:
    batch: list[str] = []
    held = 0
    for text in texts:
        # A letter has at most four bytes. Counting them exactly would mean to encode every text twice.
        size = 4 * len(text)
        if batch and (len(batch) == most_texts or held + size > LARGEST_BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(text)
        held += size
    if batch:
        yield batch


def _vectors(begin: int, call: Call, info: EncoderInfo) -> Vectors:
    try:
        response = call.result()
    except grpc.RpcError as failure:
        error = call_error(failure)
        found = (error.code, error.message, error.reason, error.violations, error.retry_after)
        raise type(error)(*found, index=begin) from failure
    if response.fingerprint != info.fingerprint:
        message = f"the encoder changed from {info.fingerprint[:12]} to {response.fingerprint[:12]}: encode all again"
        raise FailedPrecondition(grpc.StatusCode.FAILED_PRECONDITION, message, "WRONG_ENCODER")
    return Vectors(
        np.array([embedding.values for embedding in response.embeddings], np.float32),
        np.array([embedding.token_count for embedding in response.embeddings], np.int32),
        np.array([embedding.truncated for embedding in response.embeddings], np.bool_),
        response.fingerprint,
    )
