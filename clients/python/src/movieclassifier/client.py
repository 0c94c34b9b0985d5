"""The blocking client of classifier-svc."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Literal, TypeVar, overload

import grpc

from movieclassifier import frames
from movieclassifier._channel import Connection, Tls, metadata_of
from movieclassifier._stream import CLOSED, Call, Stream
from movieclassifier._window import Result, Window
from movieclassifier.classifier.v1 import classifier_service_pb2 as wire
from movieclassifier.classifier.v1 import classifier_service_pb2_grpc as service
from movieclassifier.errors import ServiceError, call_error, error_of
from movieclassifier.results import Classification, Model, Movie, classification_of, model_of, not_a_text

Frame = TypeVar("Frame")


class Classifier:
    """A connection to classifier-svc. It may be shared by threads, and opens its channel on the first call.

    Args:
        address: `host:port`, a grpcio target such as `dns:///classifier-pods.movies:50052` (calls are spread over all
            addresses of the name), or a URL with `http` or `https`.
        tls: True for TLS with public authorities, or a `Tls` for your own authority or a client certificate.
        api_key: sent with every call. Use TLS, or others can read it.
        deadline: seconds for each unary call, over all its attempts.

    Raises:
        OSError: a file of `tls` cannot be read.
        ValueError: the address and `tls` contradict each other.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50052",
        *,
        tls: Tls | bool = False,
        api_key: str | None = None,
        deadline: float = 10.0,
    ) -> None:
        self._deadline = deadline
        self._is_closed = False
        self._metadata = metadata_of(api_key)
        self._channel = Connection.to(address, tls).channel()
        self._stub = service.ClassifierServiceStub(self._channel)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Calls that are open fail."""
        self._is_closed = True
        self._channel.close()

    def model(self, *, deadline: float | None = None) -> Model:
        """Describes the model that the service runs. Raises ServiceError."""
        try:
            response = self._stub.GetModel(
                wire.GetModelRequest(), timeout=self._seconds(deadline), metadata=self._metadata
            )
        except grpc.RpcError as failure:
            raise call_error(failure) from failure
        return model_of(response)

    def classify(
        self,
        overview: str,
        title: str = "",
        *,
        include_scores: bool = False,
        explain: bool = False,
        min_probability: float | None = None,
        top_k: int | None = None,
        deadline: float | None = None,
    ) -> Classification:
        """Classifies one movie.

        Args:
            overview: what happens in the movie; must not be blank.
            title: its title; may be empty.
            include_scores: also return the probabilities of all genres.
            explain: also return what each sentence contributes to each predicted genre. Costs a run for each sentence.
            min_probability: replaces the threshold of every genre, 0 to 1.
            top_k: return only the `top_k` most probable of the predicted genres, at least 1. Without `min_probability`,
                no threshold applies: exactly so many are predicted.
            deadline: seconds for this call instead of the client's.

        Raises:
            InvalidRequest: a text is blank or too long; `violations` name it.
            ServiceError: the call failed; its subclasses say how.
        """
        request = wire.ClassifyRequest(
            title=title,
            overview=overview,
            include_scores=include_scores,
            explain=explain,
            min_probability=min_probability,
            top_k=top_k,
        )
        try:
            response = self._stub.Classify(request, timeout=self._seconds(deadline), metadata=self._metadata)
        except grpc.RpcError as failure:
            raise call_error(failure) from failure
        return classification_of(response)

    @overload
    def classify_many(
        self,
        movies: Iterable[Movie | str],
        *,
        include_scores: bool = False,
        min_probability: float | None = None,
        top_k: int | None = None,
        errors: Literal["raise"] = "raise",
        window: int = 256,
        patience: float = 60.0,
    ) -> Generator[Classification, None, None]: ...

    @overload
    def classify_many(
        self,
        movies: Iterable[Movie | str],
        *,
        include_scores: bool = False,
        min_probability: float | None = None,
        top_k: int | None = None,
        errors: Literal["return"],
        window: int = 256,
        patience: float = 60.0,
    ) -> Generator[Classification | ServiceError, None, None]: ...

    def classify_many(
        self,
        movies: Iterable[Movie | str],
        *,
        include_scores: bool = False,
        min_probability: float | None = None,
        top_k: int | None = None,
        errors: Literal["raise", "return"] = "raise",
        window: int = 256,
        patience: float = 60.0,
    ) -> Generator[Classification | ServiceError, None, None]:
        """Classifies any number of movies over one stream, in bounded memory.

        Yields one result for each movie, in the order of the input. At most `window` movies are read ahead of the
        result that was taken last, so a slow consumer slows down the input and the service. If the stream breaks, for
        example because a replica restarts, the movies without a result are sent again over a new one: none is lost and
        none comes twice. Movies that an overloaded service rejects are sent again, too, after a pause.

        Args:
            movies: movies, or overviews of movies without a title. Another thread reads it.
            include_scores: also return the probabilities of all genres.
            min_probability: as in `classify`.
            top_k: as in `classify`.
            errors: what happens if one movie fails, for example because its overview is blank. "raise" raises its
                error, and "return" yields it in place of the result and goes on.
            window: movies that are sent or waiting at a time, at least 1. Values under the service's
                `limits.stream_in_flight` (64) leave it idle.
            patience: seconds for which temporary failures are retried without any progress. A stream that is silent
                for half of it is replaced by another.

        Raises:
            ServiceError: one movie failed and `errors` is "raise" (its `index` says which), or the whole call failed
                (its `index` is None).
        """
        not_a_text(movies)
        options = {"include_scores": include_scores, "min_probability": min_probability, "top_k": top_k}
        state = Window(window, patience, errors, options, time.monotonic())
        stream = Stream(self._open_stream, movies, state, patience)
        return _raised(stream.results()) if errors == "raise" else stream.results()

    def classify_frame(
        self,
        frame: Frame,
        *,
        title: str | None = "title",
        overview: str = "overview",
        prefix: str = "",
        min_probability: float | None = None,
        top_k: int | None = None,
        window: int = 256,
        patience: float = 60.0,
    ) -> Frame:
        """Classifies the rows of a table: a pandas or polars DataFrame, or a pyarrow Table or RecordBatch.

        Args:
            frame: the table. It is not changed.
            title: the column of titles; None if there is none. A null is an empty title.
            overview: the column of overviews. A row whose overview is null or blank gets an error.
            prefix: put before the names of the new columns.
            min_probability: as in `classify`.
            top_k: as in `classify`.
            window: as in `classify_many`.
            patience: as in `classify_many`.

        Returns:
            A table of the same kind, with the same rows and columns in the same order, and these columns added:
            `labels` (list of strings: the predicted genres, most probable first), `probabilities` (list of floats: one
            for each genre in the order of `model().labels`), `model_version`, `truncated` (whether the end of the text
            was ignored) and `error` (why the row has none of the others, as `REASON: message`; otherwise null).

        Raises:
            ServiceError: the service failed. Errors of single rows do not raise.
            TypeError: the table is of another kind, or a column does not hold strings.
            ValueError: a column is missing, or a new one would replace one of the table.
        """
        table = frames.open_table(frame, title, overview, prefix)
        results = self.classify_many(
            table.movies(),
            include_scores=True,
            min_probability=min_probability,
            top_k=top_k,
            errors="return",
            window=window,
            patience=patience,
        )
        return table.with_results(results)

    def _open_stream(self, requests: Iterator[wire.ClassifyStreamRequest]) -> Call:
        try:
            return self._stub.ClassifyStream(requests, metadata=self._metadata)
        except ValueError as failure:
            if not self._is_closed:
                raise
            raise error_of(grpc.StatusCode.CANCELLED, CLOSED) from failure

    def _seconds(self, deadline: float | None) -> float:
        return self._deadline if deadline is None else deadline


def _raised(results: Generator[Result, None, None]) -> Generator[Classification, None, None]:
    with contextlib.closing(results):
        for result in results:
            if isinstance(result, ServiceError):
                raise result
            yield result
