"""Restarts each replica of both services in turn behind HAProxy, under load, and expects no failed call."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from conftest import free_port, start, wait_until_serving
from load import Load
from waiting import wait_for

CHECK_MS = 200
REMOVAL_SECONDS = 1.0
"""Longer than HAProxy needs to see that a replica is not ready: two checks and their responses."""

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")


@dataclass
class Replica:
    """A process of a service that another process on the same ports can replace."""

    binary: str
    arguments: tuple[str, ...]
    grpc_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        http = "--http-listen" if self.binary == "encoder-svc" else "--rest-listen"
        listeners = ("--listen", f"127.0.0.1:{self.grpc_port}", http, f"127.0.0.1:{self.http_port}")
        self.process = start(self.binary, "serve", *listeners, *self.arguments)
        wait_until_serving(f"127.0.0.1:{self.grpc_port}", self.process)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=30) == 0, "expected exit code 0 after SIGTERM"
            self.process = None


def balancer(folder: Path, frontends: dict[int, list[Replica]]) -> list[str]:
    lines = ["global", "  maxconn 1000", "defaults", "  mode http", "  option redispatch", "  retries 2"]
    lines += ["  timeout connect 2s", "  timeout client 60s", "  timeout server 60s"]
    for port, replicas in frontends.items():
        lines += [f"listen service{port}", f"  bind 127.0.0.1:{port} proto h2", "  balance roundrobin"]
        lines += ["  option httpchk GET /readyz"]
        for replica in replicas:
            check = f"check port {replica.http_port} check-proto h1 inter {CHECK_MS}ms rise 1 fall 2"
            lines.append(f"  server r{replica.grpc_port} 127.0.0.1:{replica.grpc_port} proto h2 {check}")
    configuration = folder / "haproxy.cfg"
    configuration.write_text("\n".join(lines) + "\n")
    return ["haproxy", "-db", "-f", str(configuration)]


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_no_call_fails_while_every_replica_is_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier_port, encoder_port = free_port(), free_port()
    settings = tmp_path / "settings.toml"
    settings.write_text(f"endpoint_removal_seconds = {REMOVAL_SECONDS}\n")
    common = ("--config", str(settings))
    encoders = [Replica("encoder-svc", (*common, "--sessions", "1")) for _ in range(2)]
    encoder_url = f"http://127.0.0.1:{encoder_port}"
    classifiers = [Replica("classifier-svc", (*common, "--encoder", encoder_url)) for _ in range(2)]
    proxy: subprocess.Popen[bytes] | None = None
    try:
        for replica in encoders:
            replica.start()
        frontends = {encoder_port: encoders, classifier_port: classifiers}
        proxy = subprocess.Popen(balancer(tmp_path, frontends))
        wait_for(partial(is_listened_on, encoder_port), f"something listens on port {encoder_port}")
        for replica in classifiers:
            replica.start()
        # By then HAProxy has checked all replicas.
        time.sleep(5 * CHECK_MS / 1e3)
        with Load(f"127.0.0.1:{classifier_port}") as load:
            time.sleep(0.5)
            for replica in (*encoders, *classifiers):
                replica.stop()
                replica.start()
                time.sleep(3 * CHECK_MS / 1e3)
        assert load.failures == []
        assert len(load.seconds) > 100
        print(f"{len(load.seconds)} calls answered, none failed")
    finally:
        for replica in (*classifiers, *encoders):
            if replica.process is not None:
                replica.process.kill()
                replica.process.wait()
        if proxy is not None:
            proxy.terminate()
            proxy.wait(timeout=10)
