"""A pair of services after calls that produce every label of their metrics."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import ROOT, free_port, start, stop, wait_until_serving
from exposition import Family, scrape
from reflection import ReflectionClient
from waiting import wait_for

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
ENCODER = "movieclassifier.encoder.v1.EncoderService"
OVERVIEW = "A retired gunslinger rides into a frontier town. A cattle baron holds every deed there."
LONG = "In year {} the rider went on through the dust. " + "He told of what he had seen beyond the hills. " * 24


@dataclass(frozen=True)
class Pair:
    """The addresses of the metrics by service."""

    metrics: dict[str, str]

    def scrape(self, service: str) -> dict[str, Family]:
        return scrape(self.metrics[service])


def rejection(call: Callable[[], Any]) -> grpc.StatusCode | None:
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return None


def call_classifier(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        client = ReflectionClient(channel)
        movie = {"title": "Dust Creek", "overview": OVERVIEW}
        client.call(CLASSIFIER, "Classify", **movie)
        assert client.call(CLASSIFIER, "Classify", **movie, explain=True).explanation.segments
        client.call(CLASSIFIER, "BatchClassify", movies=[movie, {"overview": "A storm."}])
        responses = list(client.stream(CLASSIFIER, "ClassifyStream", [{"id": str(n), **movie} for n in range(3)]))
        assert len(responses) == 3 and all(response.classification.model_version for response in responses)
        blank = rejection(lambda: client.call(CLASSIFIER, "Classify", overview=" "))
        assert blank is grpc.StatusCode.INVALID_ARGUMENT


def overload_encoder(address: str) -> None:
    """Fills the queue with a stream, so that a call beside it is rejected."""
    with grpc.insecure_channel(address) as channel:
        client = ReflectionClient(channel)
        responses = client.stream(ENCODER, "EncodeStream", [{"id": str(n), "text": LONG.format(n)} for n in range(48)])
        # New texts each time, because cached ones need no permit.
        codes = (rejection(partial(client.call, ENCODER, "Encode", texts=[f"Storm {n}"])) for n in range(200))
        assert grpc.StatusCode.UNAVAILABLE in codes, "the encoder admitted every call"
        assert len(list(responses)) == 48


def call_http(address: str, path: str) -> None:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
        assert response.status == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{address}/no/such/route", timeout=10)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    model = Path(shutil.copy(ROOT / "models" / "default.safetensors", folder))
    settings = folder / "encoder.toml"
    # A queue so short that a few long texts fill it on any machine.
    settings.write_text("[encoder]\nmax_queue_ms = 50\nsessions = 1\n")
    encoder, encoder_http, classifier, rest = (f"127.0.0.1:{free_port()}" for _ in range(4))
    listeners = ("--listen", encoder, "--http-listen", encoder_http)
    running = [start("encoder-svc", "serve", *listeners, "--config", str(settings))]
    try:
        wait_until_serving(encoder, running[0])
        listeners = ("--listen", classifier, "--rest-listen", rest)
        running.append(
            start("classifier-svc", "serve", *listeners, "--encoder", f"http://{encoder}", "--model", str(model))
        )
        wait_until_serving(classifier, running[1])
        pair = Pair({"encoder-svc": encoder_http, "classifier-svc": rest})
        call_classifier(classifier)
        overload_encoder(encoder)
        call_http(encoder_http, "/v1/models")
        call_http(rest, "/v1/model")
        # The metric of an outcome exists once it has occurred.
        model.write_bytes(b"no model")
        reloads = "movieclassifier_model_reloads_total"
        refusals = {"outcome": "rejected"}
        wait_for(
            lambda: pair.scrape("classifier-svc")[reloads].total("", refusals) > 0,
            "the new model is rejected",
            seconds=20,
        )
        yield pair
    finally:
        for process in reversed(running):
            stop(process)
