"""A client that misbehaves at random over HTTP/2 frames and HTTP/1 bytes, as its seed decides.

    python tests/abuse/misbehaving.py --address 127.0.0.1:50052 --kind classifier-grpc --seed 7 --seconds 300 [--ca FILE]

It prints how often it did what. It reads and sends as it likes, and keeps at most `CONNECTIONS` connections."""

from __future__ import annotations

import argparse
import json
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_BYTES,
    WINDOW_UPDATE,
    call_headers,
    fields,
    frame,
    get_headers,
    message,
    post_headers,
    settings_frame,
)

CONNECTIONS = 48
PAUSE_SECONDS = 0.001
"""Between two actions, so that the client does not compete with the service for the machine's cores."""
SEND_SECONDS = 0.01
CLASSIFIER, ENCODER = "/movieclassifier.classifier.v1.ClassifierService", "/movieclassifier.encoder.v1.EncoderService"
HEALTH = [(call_headers(f"/grpc.health.v1.Health/{method}"), message(b"")) for method in ("Check", "Watch")]
REFLECTION = [(call_headers("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), message(b"\x3a\x00"))]
MOVIE = b"\x12\x08A storm."
JSON = b'{"movies": [%s], "include_scores": true}' % b", ".join([b'{"overview": "A storm."}'] * 64)
# A request of each kind that a listener serves: headers, and the body that makes it whole.
REQUESTS = {
    "classifier-grpc": [
        (call_headers(f"{CLASSIFIER}/Classify"), message(MOVIE)),
        (call_headers(f"{CLASSIFIER}/Classify"), message(MOVIE + b"\x18\x01\x20\x01")),
        (call_headers(f"{CLASSIFIER}/BatchClassify"), message(b"\x0a\x0a\x12\x08A storm." * 64 + b"\x10\x01")),
        (call_headers(f"{CLASSIFIER}/ClassifyStream"), message(b"\x1a\x08A storm.") * 50),
        (call_headers(f"{CLASSIFIER}/GetModel"), message(b"")),
        (call_headers("/no.such.Service/Method"), message(b"")),
        *HEALTH,
        *REFLECTION,
    ],
    "encoder-grpc": [
        (call_headers(f"{ENCODER}/Encode"), message(b"\x0a\x08A storm." * 64)),
        (call_headers(f"{ENCODER}/EncodeStream"), message(b"\x12\x08A storm.") * 50),
        (call_headers(f"{ENCODER}/GetEncoder"), message(b"")),
        *HEALTH,
        *REFLECTION,
    ],
    "classifier-http": [
        *((get_headers(path), b"") for path in ("/", "/metrics", "/openapi.json", "/livez", "/readyz", "/v1/model", "/no")),
        (post_headers("/v1/movies:classify"), b'{"overview": "A storm.", "explain": true}'),
        (post_headers("/v1/movies:batchClassify"), JSON),
        (post_headers("/predict_genre/"), b'[{"title": "A", "overview": "A storm."}]'),
    ],
    "encoder-http": [
        (get_headers(path), b"") for path in ("/metrics", "/openapi.json", "/livez", "/readyz", "/v1/models", "/no")
    ],
}


@dataclass
class Wire:
    """One connection and the streams opened on it."""

    socket: socket.socket
    wild: bool
    """Whether frames may break the protocol, which soon ends the connection. Others only leave everything unfinished."""
    room: int = WINDOW_BYTES
    """How many bytes of DATA the service certainly accepts."""
    next_stream: int = 1
    streams: list[int] = field(default_factory=list)


class Misbehaving:
    """Does one random thing after another, on a random one of its connections."""

    def __init__(
        self, address: str, kind: str, seed: int, tls: ssl.SSLContext | None, more: list[tuple[str, str]]
    ) -> None:
        host, port = address.rsplit(":", 1)
        self.target, self.tls = (host, int(port)), tls
        self.requests = [([*headers, *more], body) for headers, body in REQUESTS[kind]]
        self.random = random.Random(seed)
        self.wires: list[Wire] = []
        self.done: Counter[str] = Counter()
        self.lawful: dict[Callable[[Wire], bool], int] = {
            self.whole_request: 40,
            self.half_request: 15,
            self.priority: 4,
            self.reset: 2,
            self.window: 8,
            self.settings: 1,
            self.pings: 1,
            self.read: 3,
            self.close: 1,
        }
        self.wild: dict[Callable[[Wire], bool], int] = self.lawful | {
            self.headers_in_pieces: 4,
            self.junk_data: 3,
            self.padding: 2,
            self.reset: 12,
            self.pings: 4,
            self.bad_frame: 3,
            self.half_a_frame: 2,
            self.close: 4,
        }

    def run(self, seconds: float) -> Counter[str]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len(self.wires) < CONNECTIONS and (not self.wires or self.random.random() < 0.1):
                self.connect()
                continue
            wire = self.random.choice(self.wires)
            actions = self.wild if wire.wild else self.lawful
            action = self.random.choices([*actions], [*actions.values()])[0]
            self.done[action.__name__] += 1
            if not action(wire):
                self.leave(wire)
            time.sleep(PAUSE_SECONDS)
        return self.done

    def connect(self) -> None:
        self.done["connect"] += 1
        raw = socket.socket()
        raw.settimeout(2)
        if self.random.random() < 0.3:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        try:
            raw.connect(self.target)
            if self.tls is not None and self.random.random() < 0.9:
                raw = self.tls.wrap_socket(raw, server_hostname="localhost")
        except OSError:
            raw.close()
            self.done["connect failed"] += 1
            return
        wire = Wire(raw, wild=self.random.random() < 0.4)
        self.wires.append(wire)
        hello = self.random.random() if wire.wild else 1.0
        if hello < 0.04:
            said = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: "
        elif hello < 0.08:
            said = PREFACE[: self.random.randrange(len(PREFACE))]
        elif hello < 0.1:
            said = self.random.randbytes(64)
        else:
            windows = self.random.choice([0, 0, 1, 100, WINDOW_BYTES, 1 << 20, (1 << 31) - 1])
            said = PREFACE + settings_frame({INITIAL_WINDOW_SIZE: windows})
        if not self.send(wire, said):
            self.leave(wire)

    def leave(self, wire: Wire) -> None:
        self.wires.remove(wire)
        try:
            if self.random.random() < 0.5:
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.socket.close()
        except OSError:
            pass

    def send(self, wire: Wire, *frames: bytes) -> bool:
        """Returns whether the service took all of it at once."""
        try:
            wire.socket.settimeout(SEND_SECONDS)
            wire.socket.sendall(b"".join(frames))
        except OSError:
            return False
        return True

    def stream(self, wire: Wire) -> int:
        """Returns a stream of the connection, or, on a wild one, sometimes one that is not open."""
        if wire.streams and (not wire.wild or self.random.random() < 0.9):
            return self.random.choice(wire.streams)
        return self.random.randrange(0, 1 << 31) if wire.wild else 0

    def open(self, wire: Wire, headers: list[tuple[str, str]], flags: int) -> tuple[int, bytes]:
        stream = wire.next_stream
        wire.next_stream += 2
        wire.streams.append(stream)
        return stream, frame(HEADERS, fields(headers), END_HEADERS | flags, stream)

    def data(self, wire: Wire, stream: int, body: bytes, flags: int) -> list[bytes]:
        """Returns the frames of a body, sometimes small ones. A lawful connection ends within its window."""
        if not wire.wild:
            body = body[: wire.room]
            wire.room -= len(body)
        size = self.random.choice([1, 100, FRAME_BYTES, FRAME_BYTES]) if wire.wild else FRAME_BYTES
        parts = [body[begin : begin + size] for begin in range(0, len(body), size)][:500]
        return [frame(DATA, part, flags if number == len(parts) - 1 else 0, stream) for number, part in enumerate(parts)]

    # ---- Actions: each returns whether the connection goes on. ----

    def whole_request(self, wire: Wire) -> bool:
        headers, body = self.random.choice(self.requests)
        stream, opened = self.open(wire, headers, 0 if body else END_STREAM)
        return self.send(wire, opened, *self.data(wire, stream, body, END_STREAM))

    def half_request(self, wire: Wire) -> bool:
        headers, body = self.random.choice(self.requests)
        stream, opened = self.open(wire, headers, 0)
        announced = message(b"", announced=self.random.choice([10, 100_000, 8_000_000, 1 << 30]))
        half = self.random.choice([b"", body[: len(body) // 2], announced, announced + bytes(5_000)])
        return self.send(wire, opened, *self.data(wire, stream, half, 0))

    def headers_in_pieces(self, wire: Wire) -> bool:
        block = fields(self.random.choice(self.requests)[0])
        stream = wire.next_stream
        wire.next_stream += 2
        wire.streams.append(stream)
        cut = self.random.randrange(len(block))
        # Without the end of headers, no other frame may follow.
        flags = self.random.choice([END_HEADERS, END_HEADERS, 0])
        return self.send(wire, frame(HEADERS, block[:cut], 0, stream), frame(CONTINUATION, block[cut:], flags, stream))

    def junk_data(self, wire: Wire) -> bool:
        junk = self.random.randbytes(self.random.choice([0, 1, 5, 1_000, FRAME_BYTES]))
        return self.send(wire, frame(DATA, junk, self.random.choice([0, END_STREAM]), self.stream(wire)))

    def padding(self, wire: Wire) -> bool:
        """Frames of which all but a byte are padding."""
        return self.send(wire, *[frame(DATA, b"\xff" + bytes(255), PADDED, self.stream(wire))] * self.random.randrange(1, 50))

    def priority(self, wire: Wire) -> bool:
        # A stream that depends on itself is an error.
        on, depends = self.stream(wire), self.stream(wire) if wire.wild else 0
        if not on:
            return True
        weight = self.random.randrange(256)
        exclusive = self.random.choice([0, 1 << 31])
        return self.send(wire, frame(PRIORITY, struct.pack("!IB", depends | exclusive, weight), 0, on))

    def reset(self, wire: Wire) -> bool:
        count = min(self.random.choice([1, 1, 1, 50]), len(wire.streams))
        resets = [frame(RST_STREAM, struct.pack("!I", self.random.randrange(14)), 0, self.stream(wire)) for _ in range(count)]
        wire.streams = wire.streams[count:]
        return self.send(wire, *resets)

    def window(self, wire: Wire) -> bool:
        by = self.random.choice([1, 1, 10, 1_000, WINDOW_BYTES])
        if wire.wild and self.random.random() < 0.05:
            by = self.random.choice([0, (1 << 31) - 1])
        return self.send(wire, frame(WINDOW_UPDATE, struct.pack("!I", by), 0, self.random.choice([0, self.stream(wire)])))

    def settings(self, wire: Wire) -> bool:
        value = self.random.choice([0, 1, WINDOW_BYTES, 1 << 20])
        values = {
            INITIAL_WINDOW_SIZE: value,
            MAX_CONCURRENT_STREAMS: self.random.choice([0, 100]),
            MAX_FRAME_SIZE: self.random.choice([FRAME_BYTES, (1 << 24) - 1]),
            # Size of the header table, and an unknown setting.
            1: self.random.choice([0, 4_096, 1 << 20]),
            99: 1,
        }
        kept = self.random.sample(sorted(values), self.random.randrange(len(values) + 1))
        return self.send(wire, settings_frame({key: values[key] for key in kept}))

    def pings(self, wire: Wire) -> bool:
        return self.send(wire, frame(PING, self.random.randbytes(8), self.random.choice([0, ACK])) * self.random.randrange(1, 100))

    def bad_frame(self, wire: Wire) -> bool:
        kind = self.random.choice([PUSH_PROMISE, CONTINUATION, GOAWAY, SETTINGS, WINDOW_UPDATE, PING, RST_STREAM, 10, 200])
        payload = self.random.randbytes(self.random.randrange(64))
        return self.send(wire, frame(kind, payload, self.random.randrange(256), self.stream(wire)))

    def half_a_frame(self, wire: Wire) -> bool:
        """The rest of the connection is read as the payload."""
        return self.send(wire, frame(DATA, bytes(FRAME_BYTES), 0, self.stream(wire))[: self.random.randrange(1, 1_000)])

    def read(self, wire: Wire) -> bool:
        """Reads a little, a lot, or confirms what came. Most connections are read rarely, so their replies pile up."""
        try:
            wire.socket.settimeout(0.001)
            got = wire.socket.recv(self.random.choice([1, 100, 1 << 16]))
        except TimeoutError:
            return True
        except OSError:
            return False
        if self.random.random() < 0.1 and not self.send(wire, frame(SETTINGS, b"", ACK)):
            return False
        return bool(got)

    def close(self, wire: Wire) -> bool:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, help="host and port of a listener")
    parser.add_argument("--kind", required=True, choices=[*REQUESTS], help="what listens there")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--ca", help="authority of the service's certificate; without it the client speaks plain text")
    parser.add_argument("--headers", type=json.loads, default=[], help="more headers of every request, as JSON pairs")
    options = parser.parse_args()
    tls = None
    if options.ca:
        tls = ssl.create_default_context(cafile=options.ca)
        tls.set_alpn_protocols(["h2"])
    more = [(name, value) for name, value in options.headers]
    client = Misbehaving(options.address, options.kind, options.seed, tls, more)
    print(json.dumps(client.run(options.seconds)))


if __name__ == "__main__":
    main()
