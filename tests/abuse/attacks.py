"""Attacks that go on for a given time, with or without an API key, against a pair of running services.

    python tests/abuse/attacks.py unread --encoder-grpc … --encoder-http … --classifier-grpc … --classifier-http … --seconds 30

The soak runs them in turns. The tests of this folder measure the same ones one by one."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# As a program it is run from anywhere.
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from abused import CLASSIFIER, ENCODER, Pair, Service  # noqa: E402
from certificates import Certificate  # noqa: E402
from http2 import (  # noqa: E402
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Connection,
    call_headers,
    fields,
    frame,
    message,
    post_headers,
)
from unread import MOVIES, UNREAD  # noqa: E402

LONG_TEXT = "The keeper of the lighthouse writes another letter to the village under the sea. " * 90
SLOW_TO_SPLIT = "a." + " " * 3_700 + "," * 3_700
Headers = tuple[tuple[str, str], ...]


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number % 128 | 128)
        number //= 128
    return bytes(out) + bytes([number])


def text_field(number: int, text: str) -> bytes:
    """Returns a field of a protobuf message."""
    raw = text.encode()
    return bytes([number << 3 | 2]) + varint(len(raw)) + raw


def together(count: int, work: Callable[[int], None]) -> None:
    """Runs `work` in `count` threads until all end."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def again(end: float) -> Iterator[int]:
    """Counts until `end`, a little slower when the service rejects everything at once."""
    for turn in itertools.count():
        if time.monotonic() >= end:
            return
        yield turn
        time.sleep(0.01)


def unread(pair: Pair, key: Headers, end: float) -> None:
    """Replies of all kinds that are not read, on new connections again and again."""
    for _ in again(end):
        clients = list[Connection]()
        with contextlib.suppress(OSError):
            for attack in UNREAD.values():
                clients.append(attack.open(pair, *key))
        pause = min(end, time.monotonic() + 5)
        while time.monotonic() < pause:
            for client in clients:
                client.pump()
            time.sleep(0.2)
        for client in clients:
            client.socket.close()


def calls(service: Service, listener: str, headers: list[tuple[str, str]], body: bytes, end: float) -> None:
    """One call after another on one connection, and on a new one when it ends."""
    for _ in again(end):
        with contextlib.suppress(OSError), service.connect(listener) as connection:
            for stream in itertools.count(1, 2):
                if time.monotonic() >= end or not connection.open(stream, headers):
                    break
                connection.body(stream, body, end=True, seconds=2)
                response = connection.response(stream, 10)
                connection.window(stream, len(response.data))
                if response.closed or connection.goaway is not None:
                    break
                if response.status not in (None, 0):
                    # As a client that was told to come back later, but sooner than it was told.
                    time.sleep(0.02)


def explain(pair: Pair, key: Headers, end: float) -> None:
    """Explanations of a text that is slow to divide into sentences."""
    body = message(text_field(2, SLOW_TO_SPLIT) + b"\x20\x01")
    headers = call_headers(f"/{CLASSIFIER}/Classify", *key)
    together(8, lambda _: calls(pair.classifier, "grpc", headers, body, end))


def explain_much(pair: Pair, key: Headers, end: float) -> None:
    """Explanations of a text of many sentences, each an encoding."""
    def body(number: int) -> bytes:
        text = " ".join(f"The keeper {number} writes letter {n} to the village." for n in range(100))
        return message(text_field(2, text) + b"\x20\x01")

    headers = call_headers(f"/{CLASSIFIER}/Classify", *key)
    together(8, lambda number: calls(pair.classifier, "grpc", headers, body(number), end))


def batches(pair: Pair, key: Headers, end: float) -> None:
    """Batches of cached movies on hundreds of streams at once."""
    headers = [*call_headers(f"/{CLASSIFIER}/BatchClassify"), *key]
    body = message(b"\x0a\x03\x12\x01a" * 256 + b"\x10\x01")

    def client(_: int) -> None:
        for _ in again(end):
            with contextlib.suppress(OSError), pair.classifier.connect("grpc") as connection:
                for stream in range(1, 200, 2):
                    connection.open(stream, headers)
                    if connection.body(stream, body, end=True, seconds=1) < len(body):
                        break
                while len(connection.ended) < 100 and time.monotonic() < end and connection.pump(0.1):
                    connection.window(0, 1 << 20)

    together(4, client)


def long_streams(pair: Pair, key: Headers, end: float) -> None:
    """Streams of the longest texts, all different, on four connections to each service."""

    def client(number: int) -> None:
        service, path, field = [
            (pair.classifier, f"/{CLASSIFIER}/ClassifyStream", 3),
            (pair.encoder, f"/{ENCODER}/EncodeStream", 2),
        ][number % 2]
        for turn in again(end):
            with contextlib.suppress(OSError), service.connect("grpc") as connection:
                connection.open(1, call_headers(path, *key))
                for item in itertools.count():
                    text = f"{number} {turn} {item} {LONG_TEXT}"[:7_400]
                    body = message(text_field(field, text))
                    if time.monotonic() >= end or connection.body(1, body, seconds=5) < len(body):
                        break
                    connection.pump()
                    connection.window(1, 1 << 16)

    together(8, client)


def short_streams(pair: Pair, key: Headers, end: float) -> None:
    """Streams of very short texts, in frames of one text."""

    def client(number: int) -> None:
        service, path, field = [
            (pair.classifier, f"/{CLASSIFIER}/ClassifyStream", 3),
            (pair.encoder, f"/{ENCODER}/EncodeStream", 2),
        ][number % 2]
        for _ in again(end):
            with contextlib.suppress(OSError), service.connect("grpc") as connection:
                connection.open(1, call_headers(path, *key))
                item = message(text_field(field, "a"))
                while time.monotonic() < end and connection.body(1, item, seconds=5) == len(item):
                    if connection.pump() is False or 1 in connection.ended:
                        break
                    connection.window(1, 1 << 12)

    together(4, client)


def unary(pair: Pair, key: Headers, end: float) -> None:
    """The longest texts, one a call, from many connections at once, to both services."""

    def client(number: int) -> None:
        text = f"{number} {LONG_TEXT}"[:7_400]
        if number % 2:
            headers, body = call_headers(f"/{CLASSIFIER}/Classify", *key), message(text_field(2, text))
            calls(pair.classifier, "grpc", headers, body, end)
        else:
            headers, body = call_headers(f"/{ENCODER}/Encode", *key), message(text_field(1, text))
            calls(pair.encoder, "grpc", headers, body, end)

    together(32, client)


def rest(pair: Pair, key: Headers, end: float) -> None:
    """Batches over REST from many connections."""
    headers = post_headers("/v1/movies:batchClassify", *key)
    together(16, lambda _: calls(pair.classifier, "http", headers, MOVIES, end))


def half_messages(pair: Pair, key: Headers, end: float) -> None:
    """Most of the largest message on forty connections, which use up a budget of bytes."""
    for _ in again(end):
        with contextlib.ExitStack() as clients, contextlib.suppress(OSError):
            for number in range(40):
                service = pair.both()[number % 2]
                path = (f"/{ENCODER}/Encode", f"/{CLASSIFIER}/Classify")[number % 2]
                connection = clients.enter_context(service.connect("grpc"))
                connection.open(1, call_headers(path, *key))
                connection.body(1, message(b"", announced=8_000_001) + b" " * 4_000_000, seconds=0.5)
            time.sleep(max(min(3, end - time.monotonic()), 0))


def floods(pair: Pair, key: Headers, end: float) -> None:
    """Rapid reset, PING, SETTINGS and CONTINUATION, on all listeners."""
    block, reset = fields(call_headers(f"/{CLASSIFIER}/Classify", *key)), CANCEL.to_bytes(4, "big")

    def client(number: int) -> None:
        service, listener = pair.both()[number % 2], ("grpc", "http")[number // 2 % 2]
        for turn in again(end):
            with contextlib.suppress(OSError), service.connect(listener) as connection:
                connection.socket.settimeout(1)
                for first in range(1, 10_000, 200):
                    streams = range(first, first + 200, 2)
                    resets = b"".join(
                        frame(HEADERS, block, END_HEADERS, stream) + frame(RST_STREAM, reset, 0, stream) for stream in streams
                    )
                    open_headers = frame(HEADERS, block, 0, 1) if first == 1 else b""
                    said = [
                        resets,
                        frame(PING, b"abcdefgh") * 1_000,
                        frame(SETTINGS) * 1_000,
                        open_headers + frame(CONTINUATION, fields([(f"x-{first}", "a" * 8_000)]), 0, 1),
                    ][turn % 4]
                    if time.monotonic() >= end or not connection.send(said):
                        break

    together(4, client)


def silence(pair: Pair, key: Headers, end: float) -> None:
    """A thousand connections that say nothing, or only begin to."""
    for _ in again(end):
        clients = list[socket.socket]()
        try:
            for number in range(1_000):
                service, listener = pair.both()[number % 2], ("grpc", "http")[number // 2 % 2]
                host, port = service.address(listener).rsplit(":", 1)
                clients.append(socket.create_connection((host, int(port)), timeout=2))
                clients[-1].sendall((b"", b"\x16\x03\x01\x02\x00", PREFACE[:9], b"GET / HTTP/1.1\r\nx: ")[number // 4 % 4])
        except OSError:
            pass
        time.sleep(max(min(12, end - time.monotonic()), 0))
        for client in clients:
            client.close()


def watches(pair: Pair, key: Headers, end: float) -> None:
    """Watches of health, which need no key."""
    headers = call_headers("/grpc.health.v1.Health/Watch")
    for _ in again(end):
        with contextlib.ExitStack() as clients, contextlib.suppress(OSError):
            for number in range(40):
                connection = clients.enter_context(pair.both()[number % 2].connect("grpc"))
                for stream in range(1, 400, 2):
                    connection.open(stream, headers)
                    connection.body(stream, message(b""), end=True, seconds=0.5)
                connection.pump()
            time.sleep(max(min(5, end - time.monotonic()), 0))


def misbehaving(pair: Pair, key: Headers, end: float) -> None:
    """Clients that misbehave at random, on all listeners."""
    clients = []
    for name, service in zip(("encoder", "classifier"), pair.both(), strict=True):
        for listener in ("grpc", "http"):
            command = [sys.executable, str(FOLDER / "misbehaving.py"), "--address", service.address(listener)]
            command += ["--kind", f"{name}-{listener}", "--seed", str(time.time_ns() % 1_000_000)]
            command += ["--seconds", str(max(end - time.monotonic(), 1)), "--headers", json.dumps(key)]
            command += ["--ca", str(service.tls.certificate)] if service.tls else []
            clients.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    for client in clients:
        client.wait()


ATTACKS: dict[str, Callable[[Pair, Headers, float], None]] = {
    attack.__name__: attack
    for attack in (
        unread,
        explain,
        explain_much,
        batches,
        long_streams,
        short_streams,
        unary,
        rest,
        half_messages,
        floods,
        silence,
        watches,
        misbehaving,
    )
}


def remote(name: str, grpc_address: str, http_address: str, tls: Certificate | None) -> Service:
    """A service that another process has started."""
    return Service(None, grpc_address, http_address, Path(name), tls)  # type: ignore[arg-type]


def yield_processor() -> None:
    """Gives precedence to the services, which an attacker on another machine would not slow down by its own work."""
    os.nice(19)
    # The services are in sessions of their own, and Linux shares out the processor among sessions first.
    with contextlib.suppress(OSError):
        os.setsid()
        Path("/proc/self/autogroup").write_text("19")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attack", choices=[*ATTACKS])
    for service, listener in itertools.product(("encoder", "classifier"), ("grpc", "http")):
        parser.add_argument(f"--{service}-{listener}", required=True, help="host and port")
    parser.add_argument("--key", help="API key")
    parser.add_argument("--certificate", type=Path, help="the services' certificate, if they speak TLS")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    yield_processor()
    tls = Certificate(options.certificate, options.certificate) if options.certificate else None
    pair = Pair(
        remote("encoder", options.encoder_grpc, options.encoder_http, tls),
        remote("classifier", options.classifier_grpc, options.classifier_http, tls),
    )
    key: Headers = (("authorization", f"Bearer {options.key}"),) if options.key else ()
    ATTACKS[options.attack](pair, key, time.monotonic() + options.seconds)


if __name__ == "__main__":
    main()
