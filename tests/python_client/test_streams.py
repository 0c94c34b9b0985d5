"""`classify_many` of both clients with a service that fails on purpose: nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import pytest
from conftest import free_port

pytest.importorskip("built_package", reason="needs an environment of its own: run `make test-python-client`")
from fake_service import FakeService, Request, Responses, bad, good, serving
from movieclassifier import (
    AsyncClassifier,
    Classification,
    Classifier,
    DeadlineExceeded,
    Encoder,
    FailedPrecondition,
    InvalidRequest,
    Movie,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from movieclassifier._window import Window
from movieclassifier.aio import _Stream
from movieclassifier.errors import error_of

Run = Callable[..., list[Any]]


def run_blocking(address: str, movies: Iterable[Any], **options: Any) -> list[Any]:
    with Classifier(address) as classifier:
        return list(classifier.classify_many(movies, **options))


def run_async(address: str, movies: Iterable[Any], **options: Any) -> list[Any]:
    async def collect() -> list[Any]:
        async with AsyncClassifier(address) as classifier:
            return [result async for result in classifier.classify_many(movies, **options)]

    return asyncio.run(collect())


@pytest.fixture(params=[run_blocking, run_async], ids=["blocking", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@pytest.fixture
def fake() -> FakeService:
    return FakeService()


def names(count: int) -> list[str]:
    return [f"movie {number}" for number in range(count)]


def labels(results: list[Any]) -> list[str]:
    assert all(isinstance(result, Classification) for result in results), results
    return [result.labels[0] for result in results]


def test_results_keep_the_order_of_the_input_although_answers_do_not(run: Run, fake: FakeService) -> None:
    def backwards(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        while batch := list(itertools.islice(requests, 10)):
            yield from map(good, reversed(batch))

    fake.stream = backwards
    with serving(fake) as address:
        assert labels(run(address, names(500), window=40)) == names(500)
    assert fake.streams == 1


def test_nothing_is_sent_for_an_empty_input(run: Run, fake: FakeService) -> None:
    with serving(fake) as address:
        assert run(address, []) == []
    assert fake.streams == 0


def test_a_window_of_one_sends_one_at_a_time(run: Run, fake: FakeService) -> None:
    with serving(fake) as address:
        assert labels(run(address, names(20), window=1)) == names(20)


def test_broken_streams_lose_and_double_nothing(run: Run, fake: FakeService) -> None:
    def breaking(number: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        # Each stream answers a few of those that it has read, not the first ones, and breaks.
        if number > 8:
            yield from map(good, requests)
            return
        yield from map(good, list(itertools.islice(requests, 8))[number % 3 : 5])
        context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")

    fake.stream = breaking
    with serving(fake) as address:
        assert labels(run(address, names(300), window=32)) == names(300)
    assert fake.streams == 9


def test_a_stream_that_the_service_resets_is_continued(run: Run, fake: FakeService) -> None:
    def resetting(number: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        yield from map(good, requests if number > 2 else itertools.islice(requests, 7))
        context.abort(grpc.StatusCode.CANCELLED, "reset")

    fake.stream = resetting
    with serving(fake) as address:
        assert labels(run(address, names(50))) == names(50)
    assert fake.streams == 3


def test_a_stream_that_the_service_closes_early_is_continued(run: Run, fake: FakeService) -> None:
    def closing(number: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        yield from map(good, requests if number > 3 else itertools.islice(requests, 7))

    fake.stream = closing
    with serving(fake) as address:
        assert labels(run(address, names(50))) == names(50)
    assert fake.streams == 4


def test_a_restarted_service_is_found_again(run: Run, fake: FakeService) -> None:
    port = free_port()
    is_down, restarted = threading.Event(), threading.Event()

    def slow(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            if len(fake.received) == 50:
                is_down.set()
                context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")
            yield good(request)

    def restart() -> None:
        with serving(fake, port):
            is_down.wait(20)
        time.sleep(1)
        with serving(fake, port):
            restarted.wait(20)

    fake.stream = slow
    thread = threading.Thread(target=restart)
    thread.start()
    try:
        assert labels(run(f"127.0.0.1:{port}", names(200), window=16)) == names(200)
    finally:
        is_down.set()
        restarted.set()
        thread.join()


def test_movies_that_an_overloaded_service_rejects_are_sent_again(run: Run, fake: FakeService) -> None:
    rejected: set[str] = set()

    def overloaded(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            if int(request.id) % 3 == 0 and request.id not in rejected:
                rejected.add(request.id)
                yield bad(request, grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
            else:
                yield good(request)

    fake.stream = overloaded
    with serving(fake) as address:
        assert labels(run(address, names(60))) == names(60)
    assert len(rejected) == 20 and len(fake.received) == 80


def test_an_overload_that_does_not_end_becomes_the_error_of_each_movie(run: Run, fake: FakeService) -> None:
    def overloaded(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            yield bad(request, grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")

    fake.stream = overloaded
    with serving(fake) as address:
        results = run(address, names(3), errors="return", patience=0.5)
    assert [type(result) for result in results] == [Unavailable] * 3
    assert [result.index for result in results] == [0, 1, 2]
    # Rejections slow down the sender.
    assert 6 <= len(fake.received) <= 30


def test_a_movie_is_retried_as_long_as_others_succeed() -> None:
    full = error_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", "QUEUE_FULL")
    good_result = Classification((), "fake", False)
    window = Window(8, 60.0, "return", {}, 0.0)
    for overview in ("rejected", "first", "second"):
        window.add(overview, 0.0)

    def sent(now: float) -> list[str]:
        return [request.id for request in iter(lambda: window.take(now), None)]

    assert sent(0.0) == ["0", "1", "2"]
    window.answer("0", full, 0.0)
    window.answer("1", good_result, 50.0)
    for now in (61.0, 109.0):
        assert sent(now) == ["0"]
        window.answer("0", full, now)
        assert not window.has_result()
    assert sent(121.0) == ["0"]
    window.answer("0", full, 121.0)
    error = window.pop()
    assert isinstance(error, ServiceError) and (error.reason, error.index) == ("QUEUE_FULL", 0)


def test_a_stream_that_ends_after_a_rejection_is_reopened_when_the_service_expects_it() -> None:
    window = Window(8, 60.0, "raise", {}, 0.0)
    for overview in ("first", "second", "third"):
        window.add(overview, 0.0)
        assert window.take(0.0) is not None
    full = error_of(grpc.StatusCode.UNAVAILABLE, "the queue is full", "QUEUE_FULL")
    window.answer("0", full, 0.0)
    backoff = window.delay(0.0)
    assert backoff is not None and 0 < backoff <= 0.1
    # A shorter time does not end the pause early.
    assert window.interrupted(error_of(grpc.StatusCode.UNAVAILABLE, "", retry_after=0.01), 0.0) == backoff
    assert window.interrupted(error_of(grpc.StatusCode.UNAVAILABLE, "", retry_after=7.0), 0.0) == 7.0


@pytest.mark.parametrize("errors", ["return", "raise"])
def test_a_movie_that_fails_does_not_end_the_stream(run: Run, fake: FakeService, errors: str) -> None:
    def picky(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            is_bad = request.overview == "movie 2"
            yield bad(request, grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_TEXT") if is_bad else good(request)

    fake.stream = picky
    with serving(fake) as address:
        if errors == "raise":
            with pytest.raises(InvalidRequest) as raised:
                run(address, names(5))
            error = raised.value
        else:
            results = run(address, names(5), errors="return")
            error = results.pop(2)
            assert labels(results) == [name for name in names(5) if name != "movie 2"]
    assert (error.reason, error.index, error.code) == ("EMPTY_TEXT", 2, grpc.StatusCode.INVALID_ARGUMENT)


def test_a_movie_that_ends_every_stream_is_found_and_gets_the_error(run: Run, fake: FakeService) -> None:
    # A message that is too large or malformed ends the stream, and the error does not say which one it was.
    movies = names(60)

    def poisoned(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            if request.overview in ("movie 11", "movie 33"):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "malformed")
            yield good(request)

    fake.stream = poisoned
    with serving(fake) as address:
        results = run(address, movies, errors="return", patience=2)
    failed = [number for number, result in enumerate(results) if isinstance(result, ServiceError)]
    assert failed == [11, 33]
    assert labels([result for number, result in enumerate(results) if number not in failed]) == [
        name for number, name in enumerate(movies) if number not in failed
    ]


def test_texts_that_cannot_be_sent_fail_alone(run: Run, fake: FakeService) -> None:
    with serving(fake) as address:
        results = run(address, ["good", Movie("\ud800"), "fine"], errors="return")
    assert [isinstance(result, InvalidRequest) for result in results] == [False, True, False]
    assert fake.received == ["good", "fine"]


def test_a_text_that_cannot_be_sent_is_reported_at_once(run: Run, fake: FakeService) -> None:
    begin = time.monotonic()
    with serving(fake) as address, pytest.raises(InvalidRequest):
        run(address, ["good", Movie("\ud800")])
    assert time.monotonic() - begin < 10


def test_an_input_of_another_type_is_a_type_error(run: Run, fake: FakeService) -> None:
    with serving(fake) as address, pytest.raises(TypeError, match="expected a Movie or an overview, found int"):
        run(address, ["good", 3])


def test_an_error_of_the_input_is_raised_after_the_results_before_it(fake: FakeService) -> None:
    def movies() -> Iterator[str]:
        yield from names(3)
        raise OSError("the disk failed")

    results = []
    with serving(fake) as address, Classifier(address) as classifier:
        with pytest.raises(OSError, match="the disk failed"):
            for result in classifier.classify_many(movies()):
                results.append(result)
    assert labels(results) == names(3)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.PERMISSION_DENIED, ServiceError),
    ],
)
def test_errors_that_a_retry_cannot_help_are_raised_at_once(
    run: Run, fake: FakeService, code: grpc.StatusCode, kind: type[ServiceError]
) -> None:
    def failing(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        context.abort(code, "no")
        yield from ()

    fake.stream = failing
    begin = time.monotonic()
    with serving(fake) as address, pytest.raises(kind) as raised:
        run(address, names(5), errors="return")
    assert raised.value.index is None
    # grpc.aio may lose the status of a stream that ends while a message is written, and then it is opened again.
    assert fake.streams == 1 or (run is run_async and time.monotonic() - begin < 20)


def test_an_unreachable_service_is_given_up_after_the_patience(run: Run) -> None:
    begin = time.monotonic()
    with pytest.raises(Unavailable):
        run(f"127.0.0.1:{free_port()}", names(5), errors="return", patience=1)
    assert 1 <= time.monotonic() - begin < 20


def test_a_silent_stream_is_replaced(run: Run, fake: FakeService) -> None:
    is_over = threading.Event()

    def silent_once(number: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        if number == 1:
            yield good(next(requests))
            is_over.wait(30)
        yield from map(good, requests)

    fake.stream = silent_once
    try:
        with serving(fake) as address:
            assert labels(run(address, names(30), patience=2)) == names(30)
            is_over.set()
    finally:
        is_over.set()
    assert fake.streams == 2


def unanswered(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
    """Answers one movie and no other."""
    yield good(next(requests))
    is_over = threading.Event()
    context.add_callback(is_over.set)
    is_over.wait(30)


def broken(number: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
    """Answers one movie, and is unavailable from then on."""
    if number == 1:
        yield good(next(requests))
    context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")


@pytest.mark.parametrize("stream", [unanswered, broken])
def test_closing_the_client_fails_an_open_stream(fake: FakeService, stream: Any) -> None:
    fake.stream = stream
    with serving(fake) as address, Classifier(address) as classifier:
        results = classifier.classify_many(names(3))
        assert next(results).labels == ("movie 0",)
        closing = threading.Timer(0.3, classifier.close)
        closing.start()
        with pytest.raises(ServiceError, match="closed") as raised:
            next(results)
        closing.join()
    assert raised.value.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("stream", [unanswered, broken])
def test_closing_the_async_client_fails_an_open_stream(fake: FakeService, stream: Any) -> None:
    async def close(address: str) -> None:
        classifier = AsyncClassifier(address)
        results = classifier.classify_many(names(3))
        assert (await anext(results)).labels == ("movie 0",)
        waiting = asyncio.ensure_future(anext(results))
        await asyncio.sleep(0.3)
        await classifier.close()
        with pytest.raises(ServiceError, match="closed") as raised:
            await asyncio.wait_for(waiting, 5)
        assert raised.value.code is grpc.StatusCode.CANCELLED

    fake.stream = stream
    with serving(fake) as address:
        asyncio.run(close(address))


def test_closing_the_async_client_fails_an_open_unary_call(fake: FakeService) -> None:
    is_over = threading.Event()

    async def close(address: str) -> None:
        classifier = AsyncClassifier(address)
        cancelled = asyncio.create_task(classifier.classify("a movie"))
        open_calls = [asyncio.create_task(call) for call in (classifier.classify("a movie"), classifier.model())]
        while len(fake.calls) < 3:
            await asyncio.sleep(0.01)
        # A task that its owner cancels is cancelled, although the client is closed at the same time.
        cancelled.cancel()
        await classifier.close()
        results = await asyncio.wait_for(asyncio.gather(cancelled, *open_calls, return_exceptions=True), 5)
        assert isinstance(results[0], asyncio.CancelledError)
        assert [getattr(result, "code", None) for result in results[1:]] == [grpc.StatusCode.CANCELLED] * 2

    def silent(number: int, context: grpc.ServicerContext) -> None:
        is_over.wait(30)

    fake.unary = silent
    with serving(fake) as address:
        try:
            asyncio.run(close(address))
        finally:
            is_over.set()


def test_a_closed_async_iterator_does_not_wait_for_a_stream_that_is_replaced(fake: FakeService) -> None:
    async def close(address: str) -> None:
        async with AsyncClassifier(address) as classifier:
            stream = _Stream(classifier._open_stream, names(3), Window(8, 60.0, "raise", {}, time.monotonic()), 60.0)
            results = stream.results()
            await anext(results)
            # As if the service had been silent for long at the same moment.
            stream._was_silent = True
            await asyncio.wait_for(results.aclose(), 5)

    fake.stream = unanswered
    with serving(fake) as address:
        asyncio.run(close(address))
    assert fake.streams == 1


def test_an_input_that_is_cancelled_is_an_error_after_the_results_before_it(fake: FakeService) -> None:
    async def movies() -> Any:
        yield "movie 0"
        raise asyncio.CancelledError

    async def collect(address: str) -> list[Any]:
        results = []
        async with AsyncClassifier(address) as classifier:
            with pytest.raises(RuntimeError, match="the input, found that it was cancelled"):
                async for result in classifier.classify_many(movies()):
                    results.append(result)
        return results

    with serving(fake) as address:
        assert labels(asyncio.run(asyncio.wait_for(collect(address), 10))) == names(1)


def test_a_slow_consumer_stops_the_input_and_the_service(fake: FakeService) -> None:
    taken = itertools.count()
    read = 0

    def movies() -> Iterator[str]:
        nonlocal read
        for number in taken:
            read = number + 1
            yield f"movie {number}"

    with serving(fake) as address, Classifier(address) as classifier:
        results = classifier.classify_many(movies(), window=10)
        assert [next(results).labels[0] for _ in range(3)] == names(3)
        time.sleep(0.5)
        # Three were taken, and the window is ten.
        assert read == len(fake.received) == 13
        results.close()
        time.sleep(0.2)
        assert read <= 14


def test_a_slow_async_consumer_stops_the_input_and_the_service(fake: FakeService) -> None:
    read = 0

    async def movies() -> Any:
        nonlocal read
        for number in itertools.count():
            read = number + 1
            yield f"movie {number}"

    async def consume(address: str) -> None:
        async with AsyncClassifier(address) as classifier:
            results = classifier.classify_many(movies(), window=10)
            assert [(await anext(results)).labels[0] for _ in range(3)] == names(3)
            assert len([task for task in asyncio.all_tasks() if task.get_name().startswith("movieclassifier")]) == 2
            await asyncio.sleep(0.5)
            assert read == len(fake.received) == 13
            await results.aclose()
            assert [task for task in asyncio.all_tasks() if task.get_name().startswith("movieclassifier")] == []

    with serving(fake) as address:
        asyncio.run(consume(address))


def test_each_result_comes_before_the_next_movie_is_known(fake: FakeService) -> None:
    """An input that needs the results, as of a person at a terminal, does not wait for a full window."""
    seen: list[str] = []
    known = threading.Semaphore(1)

    def movies() -> Iterator[str]:
        for name in names(5):
            assert known.acquire(timeout=10)
            yield name

    with serving(fake) as address, Classifier(address) as classifier:
        for result in classifier.classify_many(movies()):
            seen.append(result.labels[0])
            known.release()
    assert seen == names(5)


def test_threads_end_with_their_iterator(fake: FakeService) -> None:
    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("movieclassifier")]

    with serving(fake) as address, Classifier(address) as classifier:
        results = classifier.classify_many(f"movie {n}" for n in itertools.count())
        next(results)
        assert len(ours()) == 2
        del results
        end = time.monotonic() + 10
        while ours() and time.monotonic() < end:
            time.sleep(0.02)
        assert ours() == []


@pytest.mark.parametrize("text", ["a movie", b"a movie"])
def test_one_text_is_not_taken_for_many(text: Any) -> None:
    with Classifier("127.0.0.1:9") as classifier, Encoder("127.0.0.1:9") as encoder:
        for call in (classifier.classify_many, encoder.encode, encoder.encode_many):
            with pytest.raises(TypeError, match="expected an iterable, such as a list, found one"):
                call(text)


@pytest.mark.parametrize("wrong", [{"window": 0}, {"patience": 0}, {"errors": "ignore"}])
def test_wrong_arguments_are_rejected_before_anything_is_read(wrong: dict[str, Any]) -> None:
    with Classifier("127.0.0.1:9") as classifier, pytest.raises(ValueError, match="expected"):
        classifier.classify_many(iter(int, 1), **wrong)


def test_a_unary_call_honours_the_pushback_of_the_service(fake: FakeService) -> None:
    def full(number: int, context: grpc.ServicerContext) -> None:
        if number <= 2:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "700"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")

    fake.unary = full
    begin = time.monotonic()
    with serving(fake) as address, Classifier(address, deadline=8, api_key="sesame") as classifier:
        assert classifier.classify("a movie").labels == ("a movie",)
    assert 1.4 <= time.monotonic() - begin < 6
    assert len(fake.calls) == 3 and 0 < fake.calls[-1]["left"] < fake.calls[0]["left"] <= 8
    assert {call["metadata"]["authorization"] for call in fake.calls} == {"Bearer sesame"}


def test_a_unary_call_gives_up_after_four_attempts(fake: FakeService) -> None:
    def full(number: int, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")

    fake.unary = full
    with serving(fake) as address, Classifier(address) as classifier, pytest.raises(Unavailable):
        classifier.classify("a movie")
    assert len(fake.calls) == 4


def test_a_deadline_bounds_all_attempts(fake: FakeService) -> None:
    fake.unary = lambda number, context: time.sleep(1)
    with serving(fake) as address, Classifier(address, deadline=0.3) as classifier:
        with pytest.raises(DeadlineExceeded):
            classifier.classify("a movie")
        assert classifier.classify("a movie", deadline=5).labels == ("a movie",)
