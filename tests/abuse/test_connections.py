"""Too many connections, too few file descriptors, and clients that vanish."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time

import grpc
import pytest
from abused import CLASSIFIER, ENCODER, MIB, OVER_PLAIN_AND_TLS, Pair, pair  # noqa: F401
from http2 import (
    ACK,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    SETTINGS,
    WINDOW_UPDATE,
    Connection,
    call_headers,
    fields,
    frame,
    message,
    settings_frame,
)
from sockets import address, close_all, descriptors_for
from waiting import wait_for

# A handshake of TLS costs the test more time than the service.
MANY = {"plain": 10_000, "tls": 2_000}
# The listen backlog. The client's system retries a connection beyond it after a second.
BACKLOG = 4096
ESTABLISHED = 1


@OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("listener", ["grpc", "http"])
def test_ten_thousand_connections_delay_no_call_and_release_their_memory(pair: Pair, listener: str) -> None:  # noqa: F811
    service = pair.classifier
    open_before, before = service.descriptors(), service.resident()
    with descriptors_for(MANY["tls" if service.tls else "plain"]) as count:
        service.limit_descriptors(resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)[1])
        clients: list[Connection] = []
        try:
            while len(clients) < count:
                for _ in range(min(BACKLOG - 28, count - len(clients))):
                    clients.append(service.connect(listener))
                # Descriptors that were open before may have closed since.
                wait_for(lambda: service.descriptors() >= open_before + len(clients) - 20)
            pair.assert_others_are_served()
            each = (service.resident() - before) / count
        finally:
            close_all(clients)
    assert count > 500
    print(f"{count} connections to {listener}: {each / 1024:.1f} KiB each")
    assert each < 64 << 10
    wait_for(lambda: service.descriptors() <= open_before + 20)
    begin = time.monotonic()
    wait_for(lambda: service.resident() - before < 32 * MIB)
    print(f"{(service.resident() - before) / MIB:+.0f} MiB after {time.monotonic() - begin:.1f} s")


@pytest.mark.parametrize("listener", ["grpc", "http"])
def test_burst_of_500_connections_is_accepted_without_retry(pair: Pair, listener: str) -> None:  # noqa: F811
    """The process is stopped for a moment, so all connections must fit in the backlog."""
    service = pair.classifier
    target = address(service.address(listener))
    service.process.send_signal(signal.SIGSTOP)
    clients = [socket.socket() for _ in range(500)]
    try:
        for client in clients:
            client.setblocking(False)
            client.connect_ex(target)
        time.sleep(0.3)
        taken = sum(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED for client in clients)
    finally:
        service.process.send_signal(signal.SIGCONT)
        close_all(clients)
    assert taken == 500


def test_waits_without_file_descriptors_and_recovers(pair: Pair) -> None:  # noqa: F811
    service = pair.classifier
    usual = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)[0]
    service.limit_descriptors(64)
    clients: list[socket.socket] = []
    try:
        # Connections over the limit stay in the system's backlog.
        for _ in range(128):
            clients.append(socket.create_connection(address(service.grpc), timeout=5))
        wait_for(lambda: service.lines("failed to accept a connection") > 0)
        said, spent, begin = service.lines("failed to accept a connection"), service.cpu_seconds(), time.monotonic()
        time.sleep(1)
        seconds = time.monotonic() - begin
        spent = (service.cpu_seconds() - spent) / seconds
        said = (service.lines("failed to accept a connection") - said) / seconds
        print(f"without descriptors: {spent:.2f} cores, {said:.0f} log lines a second")
        assert spent < 0.3, "expected the accept loop to wait, not to spin"
        assert said < 50
        close_all(clients)
        # Descriptors are free again, but the limit remains.
        begin = time.monotonic()
        wait_for(lambda: served(pair))
        print(f"served again after {time.monotonic() - begin:.2f} s")
    finally:
        close_all(clients)
        service.limit_descriptors(usual)


def served(pair: Pair) -> bool:  # noqa: F811
    try:
        pair.classify()
    except grpc.RpcError:
        return False
    return True


# A client in a separate process, which can be stopped. It streams movies and reports the first response.
CLIENT = """
import socket, ssl, sys, time
sys.path.insert(0, {folder!r})
from http2 import *
connection = Connection({address!r}, tls={tls})
headers = fields(call_headers("/{service}/ClassifyStream"))
connection.send(frame(HEADERS, headers, END_HEADERS, 1), frame(DATA, message(b"\\x1a\\x08A storm."), 0, 1))
while connection.read_frame(time.monotonic() + 5)[0] != DATA: pass
print("answered", flush=True)
time.sleep(60)
"""


@OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stops", "vanishes"])
def test_client_that_stops_or_vanishes_in_a_stream_delays_no_call(pair: Pair, how: signal.Signals) -> None:  # noqa: F811
    open_before = pair.classifier.descriptors()
    authority = pair.classifier.tls
    tls = f"ssl.create_default_context(cafile={str(authority.certificate)!r})" if authority else "None"
    script = CLIENT.format(folder=os.path.dirname(__file__), address=pair.classifier.grpc, service=CLASSIFIER, tls=tls)
    clients = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(4)]
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == b"answered\n"
            client.send_signal(how)
        pair.assert_others_are_served()
    finally:
        for client in clients:
            client.kill()
            client.wait()
    wait_for(lambda: pair.classifier.descriptors() <= open_before + 4)


@OVER_PLAIN_AND_TLS
def test_stops_reading_from_a_client_that_reads_no_responses(pair: Pair) -> None:  # noqa: F811
    """Its movies wait on the client's side of the connection, not in the service's memory."""
    before = pair.encoder.resident(), pair.classifier.resident()
    movies = b"".join(message(b"\x1a\x08A storm.") for _ in range(400))
    texts = b"".join(message(b"\x12\x08A storm.") for _ in range(400))
    for service, method, many in (
        (pair.classifier, f"{CLASSIFIER}/ClassifyStream", movies),
        (pair.encoder, f"{ENCODER}/EncodeStream", texts),
    ):
        # A window of 0 forbids responses.
        shut = settings_frame({INITIAL_WINDOW_SIZE: 0})
        with service.connect("grpc") as connection:
            acknowledge_settings(connection)
            connection.send(shut, frame(HEADERS, fields(call_headers(f"/{method}")), END_HEADERS, 1))
            sent, window = 0, 1 << 20
            while sent + len(many) < window:
                connection.send(frame(DATA, many, 0, 1))
                sent += len(many)
            pair.assert_others_are_served()
            granted = granted_on(connection, 1)
            # It reads only the few movies that may be in flight, so the window stays small.
            assert granted < window / 2, f"{granted} more bytes were requested"
    after = pair.encoder.resident(), pair.classifier.resident()
    assert all(now - then < 16 * MIB for now, then in zip(after, before, strict=True)), (before, after)


def acknowledge_settings(connection: Connection) -> None:
    """Waits for the service's SETTINGS and WINDOW_UPDATE, and acknowledges them."""
    offered = set()
    while offered != {SETTINGS, WINDOW_UPDATE}:
        kind, flags, _, _ = connection.read_frame(time.monotonic() + 5)
        if kind in (SETTINGS, WINDOW_UPDATE) and not flags:
            offered.add(kind)
    connection.send(frame(SETTINGS, b"", ACK))


def granted_on(connection: Connection, stream: int) -> int:
    """Returns by how many bytes the service opened a stream's window within half a second."""
    granted, end = 0, time.monotonic() + 0.5
    while True:
        try:
            kind, _, on, payload = connection.read_frame(end)
        except TimeoutError:
            return granted
        assert kind != GOAWAY, f"the connection was closed: {payload[4:]!r}"
        if (kind, on) == (WINDOW_UPDATE, stream):
            granted += int.from_bytes(payload, "big")
