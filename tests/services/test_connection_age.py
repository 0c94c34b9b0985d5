"""The age of gRPC connections, pings to clients, and open calls of a connection."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from conftest import free_port, start, stop, wait_until_serving
from reflection import ReflectionClient

ENCODER = "movieclassifier.encoder.v1.EncoderService"
AGE_SECONDS = 1.0
# The preface of HTTP/2 and an empty SETTINGS frame.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS, GOAWAY = 4, 7
MAX_CONCURRENT_STREAMS = 3


@contextlib.contextmanager
def encoder(folder: Path, settings: str) -> Iterator[str]:
    """Runs an encoder with settings of its connections, and yields its address."""
    address = f"127.0.0.1:{free_port()}"
    file = folder / "encoder.toml"
    file.write_text(f"[grpc]\n{settings}")
    process = start("encoder-svc", "serve", "--config", str(file), "--listen", address, "--http-listen", "")
    try:
        wait_until_serving(address, process)
        yield address
    finally:
        stop(process)


def clients_of(address: str) -> set[str]:
    """Returns the addresses of the clients that are connected to `address`."""
    port = f":{int(address.rsplit(':', 1)[1]):04X}"
    connections = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    established = "01"
    return {remote for _, local, remote, state, *_ in connections if local.endswith(port) and state == established}


def frames(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Returns the type and payload of all frames until the server closes the connection."""
    received = b""
    while part := connection.recv(1 << 16):
        received += part
    found = []
    while received:
        length = 9 + int.from_bytes(received[:3], "big")
        found.append((received[3], received[9:length]))
        received = received[length:]
    return found


def silent_connection(address: str) -> tuple[list[tuple[int, bytes]], float]:
    """Says hello and nothing else. Returns what the service sends until it closes the connection, and the seconds."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(HELLO)
        begin = time.monotonic()
        received = frames(connection)
    return received, time.monotonic() - begin


def test_a_client_of_old_connections_connects_anew_and_no_call_fails(tmp_path: Path) -> None:
    settings = f"max_connection_age_seconds = {AGE_SECONDS}\nmax_connection_age_grace_seconds = 5"
    with encoder(tmp_path, settings) as address, grpc.insecure_channel(address) as channel:
        client = ReflectionClient(channel)
        seen: set[str] = set()
        calls, end = 0, time.monotonic() + 5 * AGE_SECONDS
        while time.monotonic() < end:
            client.call(ENCODER, "Encode", texts=[f"A storm {calls}."])
            calls += 1
            seen |= clients_of(address)
    assert calls > 20
    assert 3 <= len(seen) <= 8, f"{len(seen)} connections in {5 * AGE_SECONDS} s"


def test_open_calls_of_an_old_connection_finish_within_the_grace(tmp_path: Path) -> None:
    settings = f"max_connection_age_seconds = {AGE_SECONDS}\nmax_connection_age_grace_seconds = 2"
    with encoder(tmp_path, settings) as address, grpc.insecure_channel(address) as channel:

        def texts() -> Iterator[dict[str, str]]:
            for number in range(100):
                yield {"id": str(number), "text": "A storm."}
                time.sleep(0.2)

        begin, answers = time.monotonic(), 0
        with pytest.raises(grpc.RpcError) as ended:
            for _ in ReflectionClient(channel).stream(ENCODER, "EncodeStream", texts()):
                answers += 1
        seconds = time.monotonic() - begin
    assert ended.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
    # It went on after the age of its connection.
    assert AGE_SECONDS * 1.5 < seconds < 6 and answers >= 7, (seconds, answers)


def test_a_client_that_answers_no_ping_is_disconnected(tmp_path: Path) -> None:
    settings = "keepalive_interval_seconds = 1.0\nkeepalive_timeout_seconds = 1.0\nmax_concurrent_streams = 7"
    with encoder(tmp_path, settings) as address:
        received, seconds = silent_connection(address)
    assert 1.5 < seconds < 10, seconds
    (settings_sent,) = [payload for kind, payload in received[:1] if kind == SETTINGS]
    pairs = [settings_sent[at : at + 6] for at in range(0, len(settings_sent), 6)]
    sent = {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}
    assert sent[MAX_CONCURRENT_STREAMS] == 7


def test_an_old_idle_connection_is_told_to_go(tmp_path: Path) -> None:
    settings = f"max_connection_age_seconds = {AGE_SECONDS}\nmax_connection_age_grace_seconds = 1"
    with encoder(tmp_path, settings) as address:
        received, seconds = silent_connection(address)
    assert any(kind == GOAWAY for kind, _ in received)
    # This client does not answer the ping after GOAWAY, so the grace ends its connection.
    assert AGE_SECONDS * 0.9 <= seconds < 8, seconds
