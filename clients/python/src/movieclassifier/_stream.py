"""`classify_many` on threads: one reads the input, one drives the streams, and the caller takes the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator

import grpc

from movieclassifier._window import Result, Window, converted_result
from movieclassifier.classifier.v1 import classifier_service_pb2 as wire
from movieclassifier.errors import ServiceError, call_error, error_of
from movieclassifier.results import Movie

Call = Iterator[wire.ClassifyStreamResponse]
Open = Callable[[Iterator[wire.ClassifyStreamRequest]], Call]

CLOSED = "the client was closed"
CLOSED_EARLY = "the service closed the stream before it had answered"
SILENT = "the service was silent for {:.0f} s"


class Stream:
    """The movies of one `classify_many` on their way through the service. Iterates over the results in order."""

    def __init__(self, open_stream: Open, movies: Iterable[Movie | str], window: Window, patience: float) -> None:
        self._open, self._movies, self._window, self._patience = open_stream, movies, window, patience
        # Guards all below. Each condition has one kind of waiter, so that an event does not wake every thread.
        self._lock = threading.RLock()
        self._result, self._room, self._work = (threading.Condition(self._lock) for _ in range(3))
        self._call: Call | None = None
        self._was_silent = False
        self._failure: BaseException | None = None
        self._input_failure: BaseException | None = None
        self._is_closed = False

    def results(self) -> Generator[Result, None, None]:
        """Yields one result for each movie, in order.

        Raises:
            ServiceError: the service failed for as long as the patience lasts, or in a way that a retry cannot help.
            BaseException: whatever the input raised, after the results of the movies before it.
        """
        for work in (self._read_input, self._drive):
            threading.Thread(target=work, name=f"movieclassifier-{work.__name__}", daemon=True).start()
        try:
            while True:
                with self._lock:
                    while not self._window.has_result() and self._failure is None and not self._window.is_finished():
                        self._result.wait(self._patience / 4)
                        self._replace_a_silent_stream()
                    if not self._window.has_result():
                        failure = self._failure or self._input_failure
                        if failure is not None:
                            raise failure
                        return
                    result = self._window.pop()
                    self._room.notify_all()
                yield result
        finally:
            with self._lock:
                self._is_closed = True
                self._cancel()
                self._room.notify_all()
                self._work.notify_all()

    def _replace_a_silent_stream(self) -> None:
        if self._window.silent_for(time.monotonic()) >= self._patience / 2:
            self._was_silent = True
            self._cancel()

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()  # type: ignore[attr-defined]

    def _read_input(self) -> None:
        """Adds the movies of the input as long as there is room, so a slow consumer stops it."""
        try:
            for movie in self._movies:
                with self._lock:
                    self._window.add(movie, time.monotonic())
                    self._work.notify_all()
                    if self._window.has_result():
                        # It could not be sent, and failed at once.
                        self._result.notify_all()
                    self._room.wait_for(lambda: self._is_closed or self._window.has_room())
                    if self._is_closed:
                        return
        except BaseException as failure:
            self._input_failure = failure
        with self._lock:
            self._window.end()
            self._result.notify_all()
            self._work.notify_all()

    def _drive(self) -> None:
        """Opens one stream after another until every movie is answered."""
        try:
            while True:
                with self._lock:
                    self._work.wait_for(
                        lambda: self._is_closed or self._window.needs_stream() or self._window.is_answered()
                    )
                    if self._is_closed or self._window.is_answered():
                        return
                error = self._run_stream()
                with self._lock:
                    if self._is_closed or (error is None and not self._window.needs_stream()):
                        continue
                    error = error or error_of(grpc.StatusCode.UNAVAILABLE, CLOSED_EARLY)
                    delay = self._window.interrupted(error, time.monotonic())
                    self._result.notify_all()
                    self._work.wait_for(lambda: self._is_closed, delay)
        except BaseException as failure:
            with self._lock:
                self._failure = failure
                self._result.notify_all()

    def _run_stream(self) -> ServiceError | None:
        """Sends and receives until the stream ends. Returns its error, if it has one."""
        is_over = threading.Event()
        try:
            with self._lock:
                self._was_silent = False
                call = self._call = self._open(self._requests(is_over))
                if self._is_closed:
                    self._cancel()
            for response in call:
                converted = converted_result(response)
                with self._lock:
                    was_waiting = self._window.is_waiting()
                    self._window.answer(response.id, converted, time.monotonic())
                    if self._window.has_result():
                        self._result.notify_all()
                    # The answer lets the sender go on if movies wait, and is its last if it was the last.
                    if was_waiting or self._window.is_waiting() or self._window.is_answered():
                        self._work.notify_all()
        except grpc.RpcError as failure:
            if self._was_silent:
                return error_of(grpc.StatusCode.UNAVAILABLE, SILENT.format(self._patience / 2))
            return call_error(failure)
        finally:
            with self._lock:
                is_over.set()
                self._call = None
                self._work.notify_all()
        return None

    def _requests(self, is_over: threading.Event) -> Iterator[wire.ClassifyStreamRequest]:
        """Yields what grpcio sends. grpcio calls it on a thread of its own."""
        while True:
            with self._lock:
                while True:
                    if self._is_closed or is_over.is_set() or self._window.is_answered():
                        return
                    now = time.monotonic()
                    request = self._window.take(now)
                    if request is not None:
                        break
                    self._work.wait(self._window.delay(now))
            yield request
