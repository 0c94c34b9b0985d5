"""A running encoder and a running classifier, each with gRPC and HTTP, and what every client sends to them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conftest import channel_to, free_port, start, stop, wait_until_serving
from reflection import ReflectionClient

ENCODER = "movieclassifier.encoder.v1.EncoderService"
CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
MODEL = "minilm-512"
TEXTS = ["A pilot.", "Deux sœurs héritent d'un vignoble 🎬", "rain " * 400, 'a "quoted"\n\ttext\\', "x"]
MOVIES = [
    ("Dust Creek", "A retired gunslinger defends a frontier town against the hired men of a cattle baron."),
    ("", "Two orphaned sisters dream of the sea, until a stranger arrives."),
    ("Reef", "A documentary about the slow death of a coral reef. " * 40),
]


@dataclass(frozen=True)
class Pair:
    """The gRPC and the HTTP address of each service."""

    encoder: tuple[str, str]
    classifier: tuple[str, str]


def addresses() -> tuple[str, str]:
    return f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def both_services() -> Iterator[Pair]:
    encoder, classifier = addresses(), addresses()
    running = [start("encoder-svc", "serve", "--listen", encoder[0], "--http-listen", encoder[1])]
    try:
        wait_until_serving(encoder[0], running[0])
        listeners = ("--listen", classifier[0], "--rest-listen", classifier[1])
        running.append(start("classifier-svc", "serve", *listeners, "--encoder", f"http://{encoder[0]}"))
        wait_until_serving(classifier[0], running[1])
        yield Pair(encoder, classifier)
    finally:
        for process in reversed(running):
            stop(process)


def call(address: str, service: str, method: str, **fields: Any) -> Any:
    """Calls a method of our own API."""
    with channel_to(address, None) as channel:
        return ReflectionClient(channel).call(service, method, **fields)


def bits(values: Any) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)
