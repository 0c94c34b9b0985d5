"""The movies of one `classify_many`, from the input to the output. It does no I/O and knows no threads."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from movieclassifier.classifier.v1 import classifier_service_pb2 as wire
from movieclassifier.errors import CODES, ServiceError, error_of
from movieclassifier.results import Classification, Movie, classification_of

TEMPORARY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
# Codes of a stream that ended because of one of its movies, such as one that is larger than a message may be.
CAUSED_BY_A_MOVIE = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 5.0
FEWEST_TRIES = 3

Result = Classification | ServiceError


def converted_result(response: wire.ClassifyStreamResponse) -> Result:
    """Converts a response of a stream."""
    if response.HasField("classification"):
        return classification_of(response.classification)
    code = CODES.get(response.error.code, grpc.StatusCode.UNKNOWN)
    return error_of(code, response.error.message, response.error.reason)


@dataclass(slots=True)
class _Entry:
    index: int
    request: wire.ClassifyStreamRequest
    failing_since: float | None = None


class Window:
    """Movies that wait, movies in flight, and results that wait for their turn; together at most `size`.

    Every movie that was added leaves it once, in order. `options` are fields of each request. `now` is in seconds of a
    monotonic clock.
    """

    def __init__(self, size: int, patience: float, errors: str, options: Mapping[str, Any], now: float) -> None:
        if size < 1 or patience <= 0:
            raise ValueError(f"expected a window of at least 1 and a patience over 0, found {size} and {patience}")
        if errors not in ("raise", "return"):
            raise ValueError(f'expected errors to be "raise" or "return", found {errors!r}')
        # Raises for a wrong option here, and not for each movie.
        wire.ClassifyStreamRequest(**options)
        self._size, self._patience, self._options = size, patience, options
        self._added = self._yielded = 0
        self._ended = False
        self._waiting: deque[_Entry] = deque()
        self._in_flight: dict[str, _Entry] = {}
        self._results: dict[int, Result] = {}
        # When a movie last got its result, and when the service was last heard, or first owed a response.
        self._progress = self._heard = now
        # When a movie last succeeded.
        self._success = now
        self._interruptions = self._failures = 0
        self._hold_until = now
        self._alone_until = -1

    # ---- The input ----

    def has_room(self) -> bool:
        """Whether another movie may be added."""
        return self._added - self._yielded < self._size

    def add(self, movie: Movie | str, now: float) -> None:
        """Adds the next movie of the input. Raises TypeError if it is none."""
        if not isinstance(movie, Movie | str):
            raise TypeError(f"expected a Movie or an overview, found {type(movie).__name__}")
        if self._added == self._yielded:
            # Until now the service had nothing to do.
            self._progress = self._success = now
        overview, title = (movie, "") if isinstance(movie, str) else (movie.overview, movie.title)
        index = self._added
        self._added += 1
        try:
            request = wire.ClassifyStreamRequest(id=str(index), title=title, overview=overview, **self._options)
        except (TypeError, ValueError) as error:
            message = f"expected texts of valid Unicode: {error}"
            self._finish(index, error_of(grpc.StatusCode.INVALID_ARGUMENT, message, "MALFORMED_MESSAGE"), now)
        else:
            self._waiting.append(_Entry(index, request))

    def end(self) -> None:
        """Marks the end of the input."""
        self._ended = True

    # ---- The output ----

    def has_result(self) -> bool:
        """Whether `pop` may be called."""
        return self._yielded in self._results

    def pop(self) -> Result:
        """Returns the next result in the order of the input."""
        result = self._results.pop(self._yielded)
        self._yielded += 1
        return result

    def is_answered(self) -> bool:
        """Whether every movie of the input has its result."""
        return self._ended and not self._waiting and not self._in_flight

    def is_finished(self) -> bool:
        """Whether every movie of the input has left."""
        return self._ended and self._yielded == self._added

    # ---- The service ----

    def needs_stream(self) -> bool:
        """Whether a movie waits or is in flight."""
        return bool(self._waiting or self._in_flight)

    def delay(self, now: float) -> float | None:
        """Returns the seconds until `take` may return a movie; None if that depends on other events."""
        if not self._waiting or (self._in_flight and self._waiting[0].index <= self._alone_until):
            return None
        return max(0.0, self._hold_until - now)

    def take(self, now: float) -> wire.ClassifyStreamRequest | None:
        """Returns the next movie to send, if there is one that may be sent now."""
        if self.delay(now) != 0.0:
            return None
        entry = self._waiting.popleft()
        if not self._in_flight:
            self._heard = now
        self._in_flight[entry.request.id] = entry
        return entry.request

    def is_waiting(self) -> bool:
        """Whether a movie waits to be sent."""
        return bool(self._waiting)

    def answer(self, name: str, result: Result, now: float) -> None:
        """Takes a response of the current stream. `name` is the id of its request."""
        self._heard = now
        entry = self._in_flight.pop(name, None)
        if entry is None:
            return
        is_temporary = isinstance(result, ServiceError) and result.code in TEMPORARY
        if not is_temporary or self._is_overdue(entry, now):
            self._finish(entry.index, result, now)
            return
        self._waiting.appendleft(entry)
        self._back_off(now)

    def interrupted(self, error: ServiceError, now: float) -> float:
        """Takes the end of a stream that left movies unanswered. Returns the seconds until the next may be opened.

        Raises:
            ServiceError: a retry cannot help, or no movie was answered for as long as the patience lasts.
        """
        self._interruptions += 1
        unanswered = list(self._in_flight.values())
        self._in_flight.clear()
        self._waiting = deque(sorted([*unanswered, *self._waiting], key=lambda entry: entry.index))
        if error.code in CAUSED_BY_A_MOVIE and unanswered:
            if len(unanswered) == 1:
                self._waiting.remove(unanswered[0])
                self._finish(unanswered[0].index, error, now)
            else:
                # One of them ends the stream. Sent one at a time, they show which.
                self._alone_until = max(entry.index for entry in unanswered)
            return 0.0
        # A consumer that pauses for long may find the time over, but the service was hardly tried.
        is_over = now - self._progress >= self._patience and self._interruptions >= FEWEST_TRIES
        if error.code not in TEMPORARY | {grpc.StatusCode.CANCELLED} or is_over:
            raise error
        self._back_off(now, error.retry_after)
        return max(0.0, self._hold_until - now)

    def silent_for(self, now: float) -> float:
        """Returns for how many seconds the service owes a response."""
        return now - self._heard if self._in_flight else 0.0

    def _finish(self, index: int, result: Result, now: float) -> None:
        if isinstance(result, ServiceError):
            result = error_of(result.code, result.message, result.reason, violations=result.violations, index=index)
        else:
            self._interruptions = self._failures = 0
            self._success = now
        self._results[index] = result
        self._progress = now

    def _is_overdue(self, entry: _Entry, now: float) -> bool:
        if entry.failing_since is None:
            entry.failing_since = now
        # A full service may reject one movie for long and serve others. The window bounds how many overtake it.
        return now - max(entry.failing_since, self._success) >= self._patience

    def _back_off(self, now: float, at_least: float | None = None) -> None:
        """Sends nothing for a while: at least `at_least` seconds.

        Failures of movies that were in flight together count once.
        """
        if now < self._hold_until:
            self._hold_until = max(self._hold_until, now + (at_least or 0.0))
            return
        longest = min(LAST_BACKOFF, FIRST_BACKOFF * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._hold_until = now + max(at_least or 0.0, longest * random.uniform(0.5, 1.0))  # noqa: S311
