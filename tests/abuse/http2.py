"""HTTP/2 with hand-written frames, any of which can be wrong, missing or endless.

Only the compressed headers of responses are decoded by a library, hpack (https://www.rfc-editor.org/rfc/rfc9113).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = 8
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


HELLO = PREFACE + frame(SETTINGS)


def fields(headers: Iterable[tuple[str, str]]) -> bytes:
    """Returns a header block of literals, without Huffman coding or the dynamic table."""

    def text(value: str) -> bytes:
        raw = value.encode()
        if len(raw) < 127:
            return bytes([len(raw)]) + raw
        rest, length = len(raw) - 127, bytearray([127])
        while rest >= 128:
            length.append(rest % 128 | 128)
            rest //= 128
        return bytes(length) + bytes([rest]) + raw

    return b"".join(b"\x00" + text(name) + text(value) for name, value in headers)


def call_headers(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Returns the headers of a gRPC call."""
    named = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "abuse")]
    return [*named, ("te", "trailers"), ("content-type", "application/grpc"), *more]


def message(payload: bytes, *, compressed: bool = False, announced: int | None = None) -> bytes:
    """Returns a gRPC message with its prefix, which may announce another length."""
    return struct.pack("!?I", compressed, len(payload) if announced is None else announced) + payload


@dataclass
class Response:
    """What arrived until the stream or the connection ended, or until the timeout."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None
    goaway: int | None = None
    """The error code of a GOAWAY."""
    closed: bool = False

    @property
    def status(self) -> int | None:
        """The gRPC status."""
        found = self.headers.get("grpc-status")
        return None if found is None else int(found)


class Connection:
    """A connection, which sends preface and SETTINGS unless `hello` is false."""

    def __init__(self, address: str, *, hello: bool = True) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.decoder = hpack.Decoder()
        self._buffer = b""
        if hello:
            self.send(HELLO)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> bool:
        """Returns whether the peer still accepted the frames."""
        try:
            self.socket.sendall(b"".join(frames))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def read_frame(self, end: float) -> tuple[int, int, int, bytes] | None:
        """Returns kind, flags, stream and payload. Raises ConnectionError if the peer closed, TimeoutError after `end`."""

        def read(count: int) -> bytes:
            while len(self._buffer) < count:
                self.socket.settimeout(max(end - time.monotonic(), 0.001))
                chunk = self.socket.recv(1 << 16)
                if not chunk:
                    raise ConnectionResetError("closed by the peer")
                self._buffer += chunk
            taken, self._buffer = self._buffer[:count], self._buffer[count:]
            return taken

        head = read(9)
        payload = read(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    def pour(self, stream: int, begun: int, total: int, seconds: float = 5) -> int:
        """Sends DATA up to `total` bytes, as flow control and the peer permit, and returns the number of bytes sent.

        The stream is new and has sent `begun` bytes so far."""
        windows = {0: 65_535 - begun, stream: 65_535 - begun}
        sent, end = begun, time.monotonic() + seconds
        while sent < total:
            room = min(*windows.values(), 16_384, total - sent)
            if room > 0:
                if not self.send(frame(DATA, b" " * room, 0, stream)):
                    return sent
                sent += room
                windows = {on: left - room for on, left in windows.items()}
                continue
            try:
                kind, flags, on, payload = self.read_frame(end)
            except (TimeoutError, ConnectionError):
                return sent
            if kind == WINDOW_UPDATE and on in windows:
                windows[on] += int.from_bytes(payload, "big")
            elif kind == SETTINGS and not flags & ACK:
                settings = dict(struct.iter_unpack("!HI", payload))
                windows[stream] += settings.get(INITIAL_WINDOW_SIZE, 65_535) - 65_535
                # The larger window applies once the peer gets the acknowledgement.
                self.send(frame(SETTINGS, b"", ACK))
            elif on == stream and kind in (HEADERS, RST_STREAM):
                return sent
        return sent

    def response(self, stream: int, seconds: float = 5) -> Response:
        """Returns what arrives for a stream within `seconds`."""
        response, end = Response(), time.monotonic() + seconds
        while not response.ended and response.reset is None:
            try:
                kind, flags, on, payload = self.read_frame(end)
            except TimeoutError:
                return response
            except ConnectionError:
                response.closed = True
                return response
            if kind == GOAWAY:
                response.goaway = int.from_bytes(payload[4:8], "big")
            elif kind == HEADERS:
                # Every block must be decoded, because all streams share the dynamic table.
                decoded = self.decoder.decode(payload)
                if on == stream:
                    response.headers.update(decoded)
            elif kind == PING and not flags & ACK:
                self.send(frame(PING, payload, ACK))
            if on == stream and kind == RST_STREAM:
                response.reset = int.from_bytes(payload, "big")
            if on == stream and kind == DATA:
                response.data += payload
            if on == stream and kind in (HEADERS, DATA):
                response.ended = bool(flags & END_STREAM)
        return response

    def is_closed(self, seconds: float) -> bool:
        """Returns whether the peer closes the connection within `seconds`. Discards what it still sends."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.socket.settimeout(max(end - time.monotonic(), 0.001))
                if not self.socket.recv(1 << 16):
                    return True
            except (TimeoutError, BlockingIOError):
                return False
            except ConnectionError:
                return True
