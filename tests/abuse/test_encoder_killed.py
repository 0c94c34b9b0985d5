"""Kills the encoder while movies stream through the classifier."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path

import grpc
from abused import CLASSIFIER, Pair, kill, start_pair
from conftest import BINARIES, ROOT, wait_until_serving
from reflection import ReflectionClient

MOVIES = 300
DOCUMENTED = {("UNAVAILABLE", "ENCODER_UNREACHABLE"), ("UNAVAILABLE", "QUEUE_FULL")}


def test_stream_answers_each_movie_once_or_with_a_documented_error(tmp_path: Path) -> None:
    pair = start_pair(tmp_path)
    try:
        responses = stream_over_a_kill(pair)
    finally:
        for service in pair.both():
            kill(service)
            assert service.lines("panicked") == 0, service.tail()
    ids = Counter(response.id for response in responses)
    assert ids == Counter(str(number) for number in range(MOVIES)), "expected one response per movie"
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    failed = Counter((names[a.error.code], a.error.reason) for a in responses if a.WhichOneof("result") == "error")
    answered = MOVIES - failed.total()
    print(f"{answered} answered, failed: {dict(failed)}")
    assert failed.keys() <= DOCUMENTED, failed
    assert answered > 0 and failed, "the kill happened outside a stream"


def stream_over_a_kill(pair: Pair) -> list[object]:
    with grpc.insecure_channel(pair.classifier.grpc) as channel:
        # Long enough that many movies are in flight when the encoder is killed.
        movies = ({"id": str(n), "overview": f"Movie {n} " + "searches the flooded mine. " * 20} for n in range(MOVIES))
        responses = []
        for response in ReflectionClient(channel).stream(CLASSIFIER, "ClassifyStream", movies, timeout=40):
            responses.append(response)
            if len(responses) == 20:
                kill(pair.encoder)
        # The classifier is healthy and recovers with an encoder at the same address.
        assert pair.classifier.get("/livez") == 200
        with pair.encoder.log.open("ab") as sink:
            config = pair.encoder.log.with_suffix(".toml")
            command = [BINARIES / "encoder-svc", "serve", "--config", config]
            pair.encoder.process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
        wait_until_serving(pair.encoder.grpc, pair.encoder.process)
        end = time.monotonic() + 8
        while True:
            try:
                pair.classify()
                return responses
            except grpc.RpcError:
                assert time.monotonic() < end
                time.sleep(0.1)
