"""One caller must not displace the others, and a rate limit counts work."""

from __future__ import annotations

import hashlib
import itertools
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from abused import CLASSIFIER, ENCODER, Pair, Service, kill, pair, start  # noqa: F401
from error_details import details
from reflection import ReflectionClient

WORDS = "storm reef sheriff letter orchard signal winter engine harbour promise ledger violin".split()
# For a debug build on a busy machine. A queue that one caller can fill rejects the calls, or serves none for as long.
PROMPT_SECONDS = 10.0


def connect(address: str) -> grpc.Channel:
    """Opens a connection of its own: gRPC would share one."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(address, options=options)


def reason_of(error: grpc.RpcError) -> str:
    try:
        return str(details(error)["ErrorInfo"].reason)
    except KeyError:
        return "without a reason"


def text(seed: int, words: int) -> str:
    """Returns a text that no other seed has, so that no cache knows it."""
    return f"{seed} " + " ".join(random.Random(seed).choices(WORDS, k=words))


class Streams:
    """A caller that keeps streams of long texts full until the end of a `with` block."""

    def __init__(self, address: str, count: int) -> None:
        self.over = threading.Event()
        self.responses = 0
        self.channel = connect(address)
        self.client = ReflectionClient(self.channel)
        self.client.method(ENCODER, "EncodeStream")
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def _items(self, stream: int) -> Iterator[dict[str, Any]]:
        for number in itertools.count(stream * 1_000_000):
            if self.over.is_set():
                return
            yield {"id": str(number), "text": text(number, 350)}

    def _run(self, stream: int) -> None:
        try:
            for _ in self.client.stream(ENCODER, "EncodeStream", self._items(stream), timeout=120):
                self.responses += 1
        except grpc.RpcError:
            if not self.over.is_set():
                raise

    def __enter__(self) -> Streams:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.channel.close()
        for thread in self.threads:
            thread.join(timeout=30)


@pytest.mark.parametrize("streams", [1, 4])
def test_streams_of_long_texts_leave_unary_calls_prompt(pair: Pair, streams: int) -> None:  # noqa: F811
    outcomes: Counter[str] = Counter()
    seconds = []
    with Streams(pair.encoder.grpc, streams) as hostile, connect(pair.encoder.grpc) as channel:
        client = ReflectionClient(channel)
        client.method(ENCODER, "Encode")
        # The queue is full by then.
        time.sleep(4)
        before = hostile.responses
        for number in range(40):
            begin = time.monotonic()
            try:
                client.call(ENCODER, "Encode", timeout=PROMPT_SECONDS, texts=[text(-1_000 * streams - number, 40)])
                outcomes["OK"] += 1
            except grpc.RpcError as error:
                outcomes[error.code().name] += 1
            seconds.append(time.monotonic() - begin)
        served = hostile.responses - before
    seconds.sort()
    print(f"{streams} streams: {dict(outcomes)}, p50 {seconds[20]:.3f} s, slowest {seconds[-1]:.3f} s; {served} texts streamed")
    assert outcomes == {"OK": 40}
    assert served > 0, "the streams are served too"


def test_cached_batches_of_one_caller_leave_the_service_ready(pair: Pair) -> None:  # noqa: F811
    movies = [{"overview": text(10_000_000 + number, 30)} for number in range(256)]
    outcomes: Counter[str] = Counter()
    probes: Counter[int] = Counter()
    slowest, polite, over = 0.0, [], threading.Event()

    with connect(pair.classifier.grpc) as channel, connect(pair.classifier.grpc) as other:
        client = ReflectionClient(channel)
        for first in range(0, len(movies), 8):
            client.call(CLASSIFIER, "BatchClassify", timeout=60, movies=movies[first : first + 8])
        path, request, response = client.method(CLASSIFIER, "BatchClassify")
        call = channel.unary_unary(path, request.SerializeToString, response.FromString)

        def probe() -> None:
            nonlocal slowest
            courteous = ReflectionClient(other)
            while not over.is_set():
                begin = time.monotonic()
                probes[pair.classifier.get("/readyz")] += 1
                slowest = max(slowest, time.monotonic() - begin)
                begin = time.monotonic()
                courteous.call(CLASSIFIER, "Classify", timeout=10, overview=movies[0]["overview"])
                polite.append(time.monotonic() - begin)
                time.sleep(0.05)

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(probe)
            message = request(movies=movies, include_scores=True)
            begin = time.monotonic()
            futures = [call.future(message, timeout=60) for _ in range(400)]
            for future in futures:
                try:
                    future.result()
                    outcomes["OK"] += 1
                except grpc.RpcError as error:
                    outcomes[f"{error.code().name} {reason_of(error)}"] += 1
            took = time.monotonic() - begin
            over.set()
            watching.result()
    print(f"{dict(outcomes)} in {took:.1f} s; /readyz {dict(probes)}, slowest {slowest:.3f} s; Classify up to {max(polite):.3f} s")
    assert set(probes) == {200}, probes
    assert set(outcomes) <= {"OK", "UNAVAILABLE QUEUE_FULL"} and outcomes["OK"] > 0
    assert max(polite) < PROMPT_SECONDS


@pytest.fixture
def limited(pair: Pair) -> Iterator[Service]:  # noqa: F811
    """A classifier with the key `key`, limited to five movies at once and then one a second."""
    key = hashlib.sha256(b"key").hexdigest()
    settings = (
        'listen = "{grpc}"\n[rest]\nlisten = "{http}"\n'
        f'[encoder]\nurl = "http://{pair.encoder.grpc}"\n'
        f'[[auth.keys]]\nname = "limited"\nsha256 = "{key}"\ntexts_per_second = 1\ntexts_burst = 5\n'
    )
    with tempfile.TemporaryDirectory() as folder:
        service = start(Path(folder), "classifier-svc", settings)
        try:
            yield service
        finally:
            kill(service)


def test_a_rate_limit_counts_the_movies_of_streams_and_batches(limited: Service, pair: Pair) -> None:  # noqa: F811
    metadata = [("x-api-key", "key")]
    with connect(limited.grpc) as channel, connect(pair.classifier.grpc) as reflecting:
        client = ReflectionClient(reflecting)
        path, request, response = client.method(CLASSIFIER, "ClassifyStream")
        stream = channel.stream_stream(path, request.SerializeToString, response.FromString)
        items = (request(id=str(number), overview="A storm is coming.") for number in range(1_500))
        begin, arrived = time.monotonic(), 0
        responses = stream(items, timeout=6, metadata=metadata)
        try:
            for item in responses:
                assert item.WhichOneof("result") == "classification", item
                arrived += 1
                if time.monotonic() - begin > 4:
                    break
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        took = time.monotonic() - begin
        responses.cancel()
        print(f"{arrived} of 1500 movies of a stream in {took:.1f} s")
        assert 4 <= arrived <= 5 + took + 1

        def outcome(method: str, **fields: Any) -> str:
            path, request, response = client.method(CLASSIFIER, method)
            call = channel.unary_unary(path, request.SerializeToString, response.FromString)
            try:
                call(request(**fields), timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                return f"{error.code().name} {reason_of(error)}"
            return "OK"

        movie = {"overview": "A storm is coming."}
        assert outcome("BatchClassify", movies=[movie] * 6) == "INVALID_ARGUMENT EXCEEDS_TEXT_BURST"
        assert outcome("BatchClassify", movies=[movie] * 5) == "RESOURCE_EXHAUSTED RATE_LIMITED"
        time.sleep(5.5)
        # The movie and its three segments.
        explained = {"title": "Reef", "overview": "A storm is coming. Nobody sees it.", "explain": True}
        assert outcome("Classify", **explained) == "OK"
        assert outcome("BatchClassify", movies=[movie] * 4) == "RESOURCE_EXHAUSTED RATE_LIMITED"
