"""HTTP/2 with hand-written frames, any of which can be wrong, missing or endless.

Only the compressed headers of responses are decoded by a library, hpack (https://www.rfc-editor.org/rfc/rfc9113).
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
CANCEL = 8
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 3, 4, 5
FRAME_BYTES, WINDOW_BYTES = 16_384, 65_535
"""The largest payload of a frame, and the first window of a connection or stream, unless SETTINGS change them."""


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, b"".join(struct.pack("!HI", key, value) for key, value in values.items()))


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
    named = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    return [*named, ("te", "trailers"), ("content-type", "application/grpc"), *more]


def get_headers(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Returns the headers of a GET request."""
    return [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost"), *more]


def post_headers(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Returns the headers of a POST request with JSON."""
    named = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    return [*named, ("content-type", "application/json"), *more]


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
    """A connection, which sends preface and SETTINGS unless `hello` is false.

    With `tls` it shakes hands first. `settings` are sent with the preface."""

    def __init__(
        self,
        address: str,
        *,
        hello: bool = True,
        tls: ssl.SSLContext | None = None,
        settings: dict[int, int] | None = None,
        receive_bytes: int | None = None,
    ) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket()
        self.socket.settimeout(5)
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect((host, int(port)))
        # Frames are sent at once, so those of one attack do not wait for an acknowledgement.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        # `select` accepts no descriptor above 1,024.
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)
        self.decoder = hpack.Decoder()
        self._buffer = b""
        # OpenSSL does not permit to read and write at once.
        self._lock = threading.Lock()
        # How many bytes the peer permits to send: on the connection, on a new stream, on open streams.
        self._window, self._initial, self._windows = WINDOW_BYTES, WINDOW_BYTES, dict[int, int]()
        self.ended: set[int] = set()
        """Streams that the peer ended or reset, as far as `pump` and `body` have read."""
        self.goaway: int | None = None
        self.max_streams = 1 << 31
        """How many streams the peer permits at once, once it has said so."""
        if hello:
            self.send(PREFACE, frame(SETTINGS) if settings is None else settings_frame(settings))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> bool:
        """Returns whether the peer still accepted the frames. Raises TimeoutError if it did not read them in time."""
        try:
            with self._lock:
                self.socket.sendall(b"".join(frames))
        except TimeoutError:
            raise
        except OSError:
            return False
        return True

    def _receive(self, end: float) -> bytes:
        """Returns what arrives next. Raises ConnectionError if the peer closed, TimeoutError after `end`."""
        while True:
            pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()
            left = max(end - time.monotonic(), 0.001)
            try:
                if not pending and not self._poll.poll(left * 1000):
                    raise TimeoutError
                with self._lock:
                    # Of TLS, what is readable may be less than a record.
                    self.socket.settimeout(0.001 if isinstance(self.socket, ssl.SSLSocket) else left)
                    try:
                        chunk = self.socket.recv(1 << 16)
                    except TimeoutError:
                        if time.monotonic() > end:
                            raise
                        continue
                    finally:
                        self.socket.settimeout(5)
            except TimeoutError:
                raise
            except (OSError, ValueError) as error:
                raise ConnectionResetError("closed") from error
            if not chunk:
                raise ConnectionResetError("closed by the peer")
            return chunk

    def read_frame(self, end: float) -> tuple[int, int, int, bytes]:
        """Returns kind, flags, stream and payload. Raises ConnectionError if the peer closed, TimeoutError after `end`."""
        while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3], "big"):
            self._buffer += self._receive(end)
        head, end_of_frame = self._buffer[:9], 9 + int.from_bytes(self._buffer[:3], "big")
        payload, self._buffer = self._buffer[9:end_of_frame], self._buffer[end_of_frame:]
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    def pump(self, seconds: float = 0) -> bool:
        """Reads what arrives within `seconds`, with at least one look, and keeps count of windows and ended streams.

        Replies to PING and SETTINGS. Returns whether the connection is still open."""
        end = time.monotonic() + seconds
        while True:
            try:
                self._note(*self.read_frame(end))
            except TimeoutError:
                return True
            except ConnectionError:
                return False

    def _note(self, kind: int, flags: int, on: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and on == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE and on in self._windows:
            self._windows[on] += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            values = dict(struct.iter_unpack("!HI", payload))
            self.max_streams = values.get(MAX_CONCURRENT_STREAMS, self.max_streams)
            initial = values.get(INITIAL_WINDOW_SIZE, self._initial)
            self._windows = {stream: window + initial - self._initial for stream, window in self._windows.items()}
            self._initial = initial
            # The larger window applies once the peer gets the acknowledgement.
            self.send(frame(SETTINGS, b"", ACK))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, payload, ACK))
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM):
            self.ended.add(on)

    def open(self, stream: int, headers: Iterable[tuple[str, str]], *, end: bool = False) -> bool:
        """Sends the headers of a request, which may be all of it."""
        self._windows[stream] = self._initial
        return self.send(frame(HEADERS, fields(headers), END_HEADERS | (END_STREAM if end else 0), stream))

    def window(self, stream: int, increment: int) -> bool:
        """Permits the peer to send `increment` more bytes, on a stream and on the connection. Stream 0 is the latter alone."""
        if increment == 0:
            return True
        update = struct.pack("!I", increment)
        return self.send(*(frame(WINDOW_UPDATE, update, 0, on) for on in {0, stream}))

    def body(self, stream: int, data: bytes, *, end: bool = False, seconds: float = 5) -> int:
        """Sends `data` as flow control and the peer permit. Returns how many bytes were sent within `seconds`."""
        sent, until = 0, time.monotonic() + seconds
        while sent < len(data) and stream not in self.ended:
            room = min(self._window, self._windows[stream], FRAME_BYTES, len(data) - sent)
            if room > 0:
                flags = END_STREAM if end and sent + room == len(data) else 0
                try:
                    if not self.send(frame(DATA, data[sent : sent + room], flags, stream)):
                        return sent
                except TimeoutError:
                    return sent
                sent += room
                self._window -= room
                self._windows[stream] -= room
                continue
            try:
                self._note(*self.read_frame(until))
            except (TimeoutError, ConnectionError):
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
            self._note(kind, flags, on, payload)
            response.goaway = self.goaway
            if kind == HEADERS:
                # Every block must be decoded, because all streams share the dynamic table.
                decoded = self.decoder.decode(payload)
                if on == stream:
                    response.headers.update(decoded)
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
                self._receive(end)
            except TimeoutError:
                return False
            except ConnectionError:
                return True
