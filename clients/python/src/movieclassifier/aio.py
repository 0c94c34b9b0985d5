"""The client of classifier-svc for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Literal, TypeVar, cast, overload

import grpc

from movieclassifier._channel import Connection, Tls, metadata_of
from movieclassifier._stream import CLOSED, CLOSED_EARLY, SILENT
from movieclassifier._window import Result, Window, converted_result
from movieclassifier.classifier.v1 import classifier_service_pb2 as wire
from movieclassifier.classifier.v1 import classifier_service_pb2_grpc as service
from movieclassifier.errors import ServiceError, call_error, error_of
from movieclassifier.results import Classification, Model, Movie, classification_of, model_of, not_a_text

Call = grpc.aio.StreamStreamCall[wire.ClassifyStreamRequest, wire.ClassifyStreamResponse]
Request = TypeVar("Request")
Response = TypeVar("Response")

# If a stream ends while a message is written to it, grpcio reports this instead of the status (`_write` in grpc/aio).
LOST_STATUS = "Internal error from Core"
BROKEN = "the stream ended while a movie was sent"
# A service that rejects a stream does so after its first message. Nothing else is written meanwhile, so that the status
# is not lost.
FIRST_ANSWER_SECONDS = 0.2


class AsyncClassifier:
    """`Classifier` for asyncio: the same arguments, methods and errors. Create it inside the running event loop."""

    def __init__(
        self,
        address: str = "127.0.0.1:50052",
        *,
        tls: Tls | bool = False,
        api_key: str | None = None,
        deadline: float = 10.0,
    ) -> None:
        self._deadline = deadline
        self._metadata = metadata_of(api_key)
        self._channel = Connection.to(address, tls).aio_channel()
        self._stub = service.ClassifierServiceStub(self._channel)

    async def __aenter__(self) -> AsyncClassifier:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Calls that are open fail."""
        await self._channel.close()

    async def model(self, *, deadline: float | None = None) -> Model:
        """Describes the model that the service runs. Raises ServiceError."""
        call = self._stub.GetModel(wire.GetModelRequest(), timeout=self._seconds(deadline), metadata=self._metadata)
        return model_of(await _response_of(call))

    async def classify(
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
        """Classifies one movie. See `Classifier.classify`."""
        request = wire.ClassifyRequest(
            title=title,
            overview=overview,
            include_scores=include_scores,
            explain=explain,
            min_probability=min_probability,
            top_k=top_k,
        )
        call = self._stub.Classify(request, timeout=self._seconds(deadline), metadata=self._metadata)
        return classification_of(await _response_of(call))

    @overload
    def classify_many(
        self,
        movies: Iterable[Movie | str] | AsyncIterable[Movie | str],
        *,
        include_scores: bool = False,
        min_probability: float | None = None,
        top_k: int | None = None,
        errors: Literal["raise"] = "raise",
        window: int = 256,
        patience: float = 60.0,
    ) -> AsyncGenerator[Classification, None]: ...

    @overload
    def classify_many(
        self,
        movies: Iterable[Movie | str] | AsyncIterable[Movie | str],
        *,
        include_scores: bool = False,
        min_probability: float | None = None,
        top_k: int | None = None,
        errors: Literal["return"],
        window: int = 256,
        patience: float = 60.0,
    ) -> AsyncGenerator[Classification | ServiceError, None]: ...

    def classify_many(
        self,
        movies: Iterable[Movie | str] | AsyncIterable[Movie | str],
        *,
        include_scores: bool = False,
        min_probability: float | None = None,
        top_k: int | None = None,
        errors: Literal["raise", "return"] = "raise",
        window: int = 256,
        patience: float = 60.0,
    ) -> AsyncGenerator[Classification | ServiceError, None]:
        """Classifies any number of movies over one stream, in bounded memory. See `Classifier.classify_many`.

        A task reads `movies`. Reading an iterable that is not asynchronous must not block.
        """
        not_a_text(movies)
        options = {"include_scores": include_scores, "min_probability": min_probability, "top_k": top_k}
        state = Window(window, patience, errors, options, time.monotonic())
        stream = _Stream(self._open_stream, movies, state, patience)
        return _raised(stream.results()) if errors == "raise" else stream.results()

    def _open_stream(self) -> Call:
        try:
            return self._stub.ClassifyStream(metadata=self._metadata)
        except grpc.aio.UsageError as failure:
            raise error_of(grpc.StatusCode.CANCELLED, CLOSED) from failure

    def _seconds(self, deadline: float | None) -> float:
        return self._deadline if deadline is None else deadline


async def _response_of(call: grpc.aio.UnaryUnaryCall[Request, Response]) -> Response:
    """Returns the response of a call. Raises ServiceError, also if the client is closed in the meantime."""
    try:
        # Unlike `await call`, this raises CancelledError only if the current task is cancelled.
        await call.code()
    except asyncio.CancelledError:
        call.cancel()
        raise
    try:
        return await call
    except grpc.aio.AioRpcError as failure:
        raise call_error(failure) from failure
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
        raise error_of(grpc.StatusCode.CANCELLED, CLOSED) from None


async def _raised(results: AsyncGenerator[Result, None]) -> AsyncGenerator[Classification, None]:
    async with contextlib.aclosing(results):
        async for result in results:
            if isinstance(result, ServiceError):
                raise result
            yield result


class _Stream:
    """The movies of one `classify_many`: one task reads the input, one drives the streams, the caller takes results."""

    def __init__(
        self,
        open_stream: Callable[[], Call],
        movies: Iterable[Movie | str] | AsyncIterable[Movie | str],
        window: Window,
        patience: float,
    ) -> None:
        self._open, self._movies, self._window, self._patience = open_stream, movies, window, patience
        self._answered: asyncio.Future[None]
        self._waiters: set[asyncio.Future[None]] = set()
        self._call: Call | None = None
        self._was_silent = False
        self._failure: BaseException | None = None
        self._input_failure: BaseException | None = None
        self._is_closed = False

    async def results(self) -> AsyncGenerator[Result, None]:
        """Yields one result for each movie, in order."""
        works = (self._read_input, self._drive)
        tasks = [asyncio.create_task(work(), name=f"movieclassifier{work.__name__}") for work in works]
        try:
            while True:
                while not self._window.has_result() and self._failure is None and not self._window.is_finished():
                    await self._wait(self._patience / 4)
                    self._replace_a_silent_stream()
                if not self._window.has_result():
                    failure = self._failure or self._input_failure
                    if failure is not None:
                        raise failure
                    return
                result = self._window.pop()
                self._notify()
                yield result
        finally:
            self._is_closed = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self, seconds: float | None = None) -> None:
        """Waits for a change, but not longer than `seconds`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiters.discard(waiter)

    def _replace_a_silent_stream(self) -> None:
        if self._call is not None and self._window.silent_for(time.monotonic()) >= self._patience / 2:
            self._was_silent = True
            self._call.cancel()

    async def _inputs(self) -> AsyncIterator[Movie | str]:
        if isinstance(self._movies, AsyncIterable):
            async for movie in self._movies:
                yield movie
        else:
            for movie in self._movies:
                yield movie

    async def _read_input(self) -> None:
        """Adds the movies of the input as long as there is room, so a slow consumer stops it."""
        try:
            async for movie in self._inputs():
                self._window.add(movie, time.monotonic())
                self._notify()
                while not self._window.has_room():
                    await self._wait()
        except asyncio.CancelledError as failure:
            # Raised as it is, it would look as if the caller's task were cancelled.
            self._input_failure = RuntimeError("expected movies from the input, found that it was cancelled")
            self._input_failure.__cause__ = failure
        except Exception as failure:
            self._input_failure = failure
        self._window.end()
        self._notify()

    async def _drive(self) -> None:
        """Opens one stream after another until every movie is answered."""
        try:
            while True:
                while not self._window.needs_stream():
                    if self._window.is_answered():
                        return
                    await self._wait()
                error = await self._run_stream()
                if error is None and not self._window.needs_stream():
                    continue
                error = error or error_of(grpc.StatusCode.UNAVAILABLE, CLOSED_EARLY)
                delay = self._window.interrupted(error, time.monotonic())
                self._notify()
                await asyncio.sleep(delay)
        except asyncio.CancelledError:
            # grpc.aio raises it if the channel is closed, too. Nobody reads the failure of a stream that is closed.
            self._failure = error_of(grpc.StatusCode.CANCELLED, CLOSED)
            self._notify()
            raise
        except Exception as failure:
            self._failure = failure
            self._notify()

    async def _run_stream(self) -> ServiceError | None:
        """Sends and receives until the stream ends. Returns its error, if it has one."""
        self._was_silent = False
        self._answered = asyncio.get_running_loop().create_future()
        call = self._call = self._open()
        sender = asyncio.ensure_future(self._send(call))
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                if not self._answered.done():
                    self._answered.set_result(None)
                found = cast(wire.ClassifyStreamResponse, response)
                self._window.answer(found.id, converted_result(found), time.monotonic())
                self._notify()
        except grpc.aio.AioRpcError as failure:
            if failure.details() == LOST_STATUS:
                return error_of(grpc.StatusCode.UNAVAILABLE, BROKEN)
            return call_error(failure)
        except asyncio.CancelledError:
            if self._is_closed or not self._was_silent:
                raise
            return error_of(grpc.StatusCode.UNAVAILABLE, SILENT.format(self._patience / 2))
        finally:
            self._call = None
            call.cancel()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return None

    async def _send(self, call: Call) -> None:
        """Sends what the window allows. The reader reports the error of the stream."""
        is_first = True
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while not self._window.is_answered():
                now = time.monotonic()
                request = self._window.take(now)
                if request is None:
                    await self._wait(self._window.delay(now))
                    continue
                await call.write(request)
                if is_first:
                    is_first = False
                    await asyncio.wait([self._answered], timeout=FIRST_ANSWER_SECONDS)
            await call.done_writing()
