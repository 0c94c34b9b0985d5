"""A running encoder and a running classifier, each with gRPC and HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from conftest import free_port, start, stop, wait_until_serving


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
