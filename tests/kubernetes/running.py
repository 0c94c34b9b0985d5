"""What tests share that run programs: free ports, processes, and waiting."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from manifests import BINARIES, ROOT


def skip_without_services() -> None:
    if not (BINARIES / "classifier-svc").is_file() or not (ROOT / ".runtime/bundles/minilm-512").is_dir():
        pytest.skip("the services are not built, or there is no bundle: run `make test-deploy`")


@contextmanager
def process(command: list[Any], folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """Runs a program for the duration of the block, without settings of the test run's environment."""
    ours = ("ENCODER_SVC_", "CLASSIFIER_SVC_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    running = subprocess.Popen(command, cwd=folder, env=clean | variables)
    try:
        yield
        assert running.poll() is None, f"{command[0]} exited with {running.returncode}"
    finally:
        running.terminate()
        running.wait(timeout=60)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


def wait_for(is_true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < end, f"expected within 60 s: {what}"
        time.sleep(0.1)
