"""Starts the real binaries with the default bundle and model."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent
# Another folder compares other binaries by the same tests.
BINARIES = Path(os.environ.get("BINARIES", ROOT / "target" / "debug")).absolute()
READY_SECONDS = 60


@dataclass(frozen=True)
class Services:
    """Addresses of the running pair."""

    encoder: str
    classifier: str
    rest: str
    """URL of the classifier's HTTP listener."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*command: str) -> subprocess.Popen[bytes]:
    path = BINARIES / command[0]
    assert path.is_file(), f"{path} is missing: run `make test`, which builds it"
    # Settings in the environment of the test run must not reach the services.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ENCODER_SVC_", "CLASSIFIER_SVC_"))}
    return subprocess.Popen([path, *command[1:]], cwd=ROOT, env=environment)


def channel_to(address: str, authority: bytes | None) -> grpc.Channel:
    """Opens a channel, over TLS if the `authority` of the service's certificate is given."""
    if authority is None:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority))


def wait_until_serving(address: str, process: subprocess.Popen[bytes], authority: bytes | None = None) -> None:
    end = time.monotonic() + READY_SECONDS
    with channel_to(address, authority) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < end:
            assert process.poll() is None, f"the service at {address} exited with {process.returncode}"
            try:
                response = health.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
            except grpc.RpcError:
                continue
            if response.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.05)
    raise AssertionError(f"the service at {address} was not ready after {READY_SECONDS} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0, "expected exit code 0 after SIGTERM"


@contextlib.contextmanager
def encoder_of(bundle: str | Path) -> Iterator[str]:
    """Runs an encoder of a bundle and yields its address."""
    address = f"127.0.0.1:{free_port()}"
    process = start("encoder-svc", "serve", "--listen", address, "--http-listen", "", "--bundle", str(bundle))
    try:
        wait_until_serving(address, process)
        yield address
    finally:
        stop(process)


@pytest.fixture(scope="session")
def fp32_encoder() -> Iterator[str]:
    """The address of an encoder with the single-precision bundle."""
    with encoder_of(".runtime/bundles/minilm-512-fp32") as address:
        yield address


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    encoder, classifier, rest = (f"127.0.0.1:{free_port()}" for _ in range(3))
    running = [start("encoder-svc", "serve", "--listen", encoder, "--http-listen", "")]
    try:
        wait_until_serving(encoder, running[0])
        listeners = ("--listen", classifier, "--rest-listen", rest)
        running.append(start("classifier-svc", "serve", *listeners, "--encoder", f"http://{encoder}"))
        wait_until_serving(classifier, running[1])
        yield Services(encoder, classifier, f"http://{rest}")
    finally:
        for process in reversed(running):
            stop(process)
