"""Streams of many short texts from well-behaved clients: flow control must hold them back, not an error."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import grpc
import pytest
from abused import CLASSIFIER, ENCODER, OVER_PLAIN_AND_TLS, Pair, pair  # noqa: F401
from conftest import BINARIES, ROOT
from reflection import ReflectionClient

MANY = 10_000
# Few different texts, so most vectors come from the cache.
WORDS = ("storm", "war", "love", "sea", "reef", "dog", "king")


@OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("stream", ["ClassifyStream", "EncodeStream"])
def test_stream_of_10_000_short_texts_gets_10_000_replies(pair: Pair, stream: str) -> None:  # noqa: F811
    service, name, field = (
        (pair.classifier, CLASSIFIER, "overview") if stream == "ClassifyStream" else (pair.encoder, ENCODER, "text")
    )
    replies = 0
    with service.channel() as channel:
        items = ({"id": str(number), field: WORDS[number % len(WORDS)]} for number in range(MANY))
        try:
            for _ in ReflectionClient(channel).stream(name, stream, items, timeout=120):
                replies += 1
        except grpc.RpcError as error:
            print(f"{stream}: {error.details()} after {replies} replies")
    assert replies == MANY


def test_command_line_classifies_10_000_short_movies(pair: Pair, tmp_path: Path) -> None:  # noqa: F811
    movies = tmp_path / "movies.jsonl"
    lines = (json.dumps({"id": str(n), "overview": WORDS[n % len(WORDS)]}) for n in range(MANY))
    movies.write_text("".join(f"{line}\n" for line in lines))
    command = [BINARIES / "classifier-svc", "classify", "--input", movies, "--address", f"http://{pair.classifier.grpc}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == MANY
