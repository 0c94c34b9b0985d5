"""Clients of a classifier with two encoders, of which one is killed, stalled and restarted."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from conftest import free_port, start, stop, wait_until_serving
from grpc_health.v1 import health_pb2, health_pb2_grpc
from load import CALLERS, CLASSIFIER, DEADLINE_SECONDS, Load
from reflection import ReflectionClient
from waiting import wait_for


@dataclass
class Fleet:
    """Two encoders that tests stop and start, and a classifier that uses them."""

    addresses: list[str]
    classifier: str
    encoders: list[subprocess.Popen[bytes] | None] = field(default_factory=lambda: [None, None])

    def start_encoder(self, index: int) -> None:
        listen = ("--listen", self.addresses[index], "--http-listen", "", "--sessions", "1")
        process = start("encoder-svc", "serve", *listen)
        self.encoders[index] = process
        wait_until_serving(self.addresses[index], process)

    def kill_encoder(self, index: int) -> None:
        process = self.encoders[index]
        assert process is not None
        # A stalled process must continue before it can exit.
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        self.encoders[index] = None

    def signal_encoder(self, index: int, which: signal.Signals) -> None:
        process = self.encoders[index]
        assert process is not None
        process.send_signal(which)

    def is_ready(self) -> bool:
        with grpc.insecure_channel(self.classifier) as channel:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return response.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet([f"127.0.0.1:{free_port()}" for _ in range(2)], f"127.0.0.1:{free_port()}")
    classifier = None
    try:
        for index in range(2):
            fleet.start_encoder(index)
        urls = ",".join(f"http://{address}" for address in fleet.addresses)
        listeners = ("--listen", fleet.classifier, "--rest-listen", "")
        classifier = start("classifier-svc", "serve", *listeners, "--encoder", urls)
        wait_until_serving(fleet.classifier, classifier)
        yield fleet
    finally:
        if classifier is not None:
            stop(classifier)
        for index, encoder in enumerate(fleet.encoders):
            if encoder is not None:
                fleet.kill_encoder(index)


def test_no_call_fails_while_one_encoder_is_healthy(fleet: Fleet) -> None:
    with Load(fleet.classifier) as load:
        time.sleep(1)
        fleet.kill_encoder(0)
        time.sleep(2)
        fleet.start_encoder(0)
        time.sleep(2)
        fleet.signal_encoder(1, signal.SIGSTOP)
        time.sleep(4)
        fleet.signal_encoder(1, signal.SIGCONT)
        time.sleep(1)
        fleet.kill_encoder(1)
        time.sleep(1)
        fleet.start_encoder(1)
        time.sleep(1)
        assert fleet.is_ready()
    assert load.failures == []
    # Calls to the stalled encoder wait a second for the hedge. No other call waits.
    assert len(load.seconds) > 300, f"{len(load.seconds)} calls are too few for a load test"
    slow = sum(seconds > 1 for seconds in load.seconds)
    assert slow < 4 * CALLERS, f"{slow} of {len(load.seconds)} calls took more than a second"


def test_calls_fail_with_unavailable_without_encoders_and_recover_with_one(fleet: Fleet) -> None:
    client = ReflectionClient(grpc.insecure_channel(fleet.classifier))
    client.call(CLASSIFIER, "Classify", overview="A storm is coming.")
    for index in range(2):
        fleet.kill_encoder(index)
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as failure:
        client.call(CLASSIFIER, "Classify", timeout=DEADLINE_SECONDS, overview="A storm is coming.")
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - begin < DEADLINE_SECONDS
    wait_for(lambda: not fleet.is_ready())

    fleet.start_encoder(1)
    wait_for(fleet.is_ready)
    client.call(CLASSIFIER, "Classify", timeout=DEADLINE_SECONDS, overview="A storm is coming.")
