"""Clients of a classifier with two encoders, of which one is killed, stalled and restarted."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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


def calls_of(http: int) -> int:
    """Returns the calls that an encoder has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics") as response:
        lines = response.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("movieclassifier_rpc_seconds_count") and "/Encode" in line]
    return sum(int(float(line.split()[-1])) for line in counts)


def test_an_encoder_that_is_about_to_stop_gets_no_new_calls(tmp_path: Path) -> None:
    """The classifier's list of addresses does not change, as that of a name server with old answers."""
    removal_seconds = 2.0
    settings = tmp_path / "settings.toml"
    settings.write_text(f"endpoint_removal_seconds = {removal_seconds}\n")
    ports = [(free_port(), free_port()) for _ in range(2)]
    classifier_address = f"127.0.0.1:{free_port()}"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for port, http in ports:
            listeners = ("--listen", f"127.0.0.1:{port}", "--http-listen", f"127.0.0.1:{http}", "--sessions", "1")
            processes.append(start("encoder-svc", "serve", "--config", str(settings), *listeners))
            wait_until_serving(f"127.0.0.1:{port}", processes[-1])
        urls = ",".join(f"http://127.0.0.1:{port}" for port, _ in ports)
        listeners = ("--listen", classifier_address, "--rest-listen", "")
        processes.append(start("classifier-svc", "serve", *listeners, "--encoder", urls))
        wait_until_serving(classifier_address, processes[-1])
        (_, http), leaving = ports[0], processes[0]
        with Load(classifier_address) as load:
            time.sleep(1)
            leaving.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            time.sleep(0.3)
            before = calls_of(http)
            time.sleep(1)
            assert before > 0
            assert calls_of(http) == before, "calls after NOT_SERVING"
            assert leaving.wait(timeout=10) == 0
            # The classifier watches its health, which does not keep it.
            assert time.monotonic() - begin < removal_seconds + 2
        assert load.failures == []
        assert len(load.seconds) > 20
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
