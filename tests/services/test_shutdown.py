"""Signals and settings files of a running service."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import grpc
from conftest import BINARIES, ROOT, free_port, start, wait_until_serving
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reflection import ReflectionClient

ENCODER = "movieclassifier.encoder.v1.EncoderService"
REMOVAL_SECONDS = 1.5


def encoder(folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    address = f"127.0.0.1:{free_port()}"
    settings = folder / "settings.toml"
    settings.write_text(f'listen = "{address}"\nendpoint_removal_seconds = {REMOVAL_SECONDS}\n[http]\nlisten = ""\n')
    process = start("encoder-svc", "serve", "--config", str(settings))
    wait_until_serving(address, process)
    return address, process


def status(channel: grpc.Channel) -> int:
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status


def test_sigterm_turns_health_off_at_once_and_still_serves_calls(tmp_path: Path) -> None:
    address, process = encoder(tmp_path)
    with grpc.insecure_channel(address) as channel:
        client = ReflectionClient(channel)
        client.call(ENCODER, "Encode", texts=["A storm."])
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert status(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        client.call(ENCODER, "Encode", texts=["Another storm."])
        # Also on a new connection, which a balancer may open before its next health check.
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
            assert status(other) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert process.wait(timeout=15) == 0
    assert time.monotonic() - begin >= REMOVAL_SECONDS


def test_second_signal_ends_the_service_at_once(tmp_path: Path) -> None:
    _, process = encoder(tmp_path)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 130
    assert time.monotonic() - begin < REMOVAL_SECONDS


def test_log_filter_follows_the_settings_file(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = tmp_path / "settings.toml"
    text = f'listen = "{address}"\n[http]\nlisten = ""\n[log]\nfilter = "{{}}"\n'
    settings.write_text(text.format("info,ort=warn"))
    log = tmp_path / "log"
    with log.open("wb") as sink:
        command = [BINARIES / "encoder-svc", "serve", "--config", settings]
        process = subprocess.Popen(command, cwd=ROOT, stderr=sink)
        try:
            wait_until_serving(address, process)
            with grpc.insecure_channel(address) as channel:
                client = ReflectionClient(channel)
                client.call(ENCODER, "Encode", texts=["A storm."])
                assert "call ended" not in log.read_text()
                settings.write_text(text.format("info,service_kit=debug,ort=warn"))
                end = time.monotonic() + 15
                while "log filter changed" not in log.read_text():
                    assert time.monotonic() < end, "the new filter was not applied"
                    time.sleep(0.05)
                client.call(ENCODER, "Encode", texts=["Another storm."])
            assert "call ended" in log.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0


def test_prints_effective_settings_without_secrets() -> None:
    command = [BINARIES / "classifier-svc", "serve", "--print-config", "--listen", "127.0.0.1:7"]
    environment = {"CLASSIFIER_SVC_ENCODER__API_KEY": "hunter2", "CLASSIFIER_SVC_LIMITS__MAX_BATCH_SIZE": "9"}
    printed = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    assert 'listen = "127.0.0.1:7"' in printed
    assert "max_batch_size = 9" in printed
    assert "hunter2" not in printed
    assert "[secret]" in printed


def test_unknown_key_is_rejected_with_a_suggestion() -> None:
    command = [BINARIES / "encoder-svc", "serve"]
    environment = {"ENCODER_SVC_LIMITS__MAX_BATCHSIZE": "9"}
    outcome = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20)
    assert outcome.returncode == 1
    assert "limits.max_batchsize; did you mean ENCODER_SVC_LIMITS__MAX_BATCH_SIZE?" in outcome.stderr
