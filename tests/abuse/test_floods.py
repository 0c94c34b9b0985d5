"""Floods of HTTP/2 frames that are cheap to send."""

from __future__ import annotations

import time

import pytest
from abused import CLASSIFIER, MIB, OVER_PLAIN_AND_TLS, Pair, pair  # noqa: F401
from http2 import (
    ACK,
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    call_headers,
    fields,
    frame,
)

ENHANCE_YOUR_CALM = 11
CLASSIFY = f"/{CLASSIFIER}/Classify"
LISTENERS = ["grpc", "http"]
pytestmark = OVER_PLAIN_AND_TLS


@pytest.mark.parametrize("listener", LISTENERS)
def test_rapid_reset_ends_the_connection(pair: Pair, listener: str) -> None:  # noqa: F811
    """CVE-2023-44487."""
    before = pair.classifier.resident()
    block, reset = fields(call_headers(CLASSIFY)), CANCEL.to_bytes(4, "big")
    with pair.classifier.connect(listener) as connection:
        for first in range(1, 20_000, 200):
            streams = range(first, first + 200, 2)
            opened = (
                frame(HEADERS, block, END_HEADERS, stream) + frame(RST_STREAM, reset, 0, stream) for stream in streams
            )
            if not connection.send(*opened):
                break
        print(f"{first // 2} streams were sent before the connection closed")
        pair.assert_others_are_served()
        response = connection.response(1)
        assert response.closed and response.goaway in (ENHANCE_YOUR_CALM, None), response
    assert pair.classifier.resident() - before < 16 * MIB


@pytest.mark.parametrize("listener", LISTENERS)
def test_continuation_flood_ends_the_connection(pair: Pair, listener: str) -> None:  # noqa: F811
    """CVE-2024-27316."""
    before = pair.classifier.resident()
    with pair.classifier.connect(listener) as connection:
        connection.send(frame(HEADERS, fields(call_headers(CLASSIFY)), 0, 1))
        for number in range(2_000):
            block = fields([(f"x-{number}", "a" * 8_000)])
            if not connection.send(frame(CONTINUATION, block, 0, 1)):
                break
        else:
            pytest.fail("16 MB of headers were accepted")
        print(f"{number} frames of 8 kB were sent before the connection closed")
        pair.assert_others_are_served()
    assert pair.classifier.resident() - before < 16 * MIB


@pytest.mark.parametrize("listener", LISTENERS)
def test_empty_continuations_end_the_connection(pair: Pair, listener: str) -> None:  # noqa: F811
    with pair.classifier.connect(listener) as connection:
        connection.send(frame(HEADERS, fields(call_headers(CLASSIFY)), 0, 1))
        connection.send(frame(CONTINUATION, b"", 0, 1) * 10_000)
        assert connection.is_closed(5)


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("kind", ["PING", "SETTINGS"])
def test_unread_responses_to_pings_and_settings_take_no_memory(pair: Pair, listener: str, kind: str) -> None:  # noqa: F811
    """CVE-2019-9512, CVE-2019-9515. The client does not read the responses."""
    before = pair.classifier.resident()
    asked = frame(PING, b"abcdefgh") if kind == "PING" else frame(SETTINGS)
    with pair.classifier.connect(listener) as connection:
        connection.socket.settimeout(1)
        sent = 0
        while sent < 64 * MIB:
            try:
                if not connection.send(asked * 5_000):
                    break
            except TimeoutError:
                # The service correctly stops reading while nobody reads its responses.
                break
            sent += len(asked) * 5_000
        print(f"{sent // len(asked)} frames of {kind} were accepted on {listener}")
        pair.assert_others_are_served()
        assert pair.classifier.resident() - before < 8 * MIB


@pytest.mark.parametrize("listener", LISTENERS)
def test_wrong_frames_do_not_fill_the_log(pair: Pair, listener: str) -> None:  # noqa: F811
    """h2 warns of each reply to a PING that it never sent."""
    before = pair.classifier.log.stat().st_size
    with pair.classifier.connect(listener) as connection:
        connection.send(frame(PING, b"abcdefgh", ACK) * 5_000)
        # The reply to this one shows that all were read.
        connection.send(frame(PING, b"the last"))
        seen = b""
        while seen != b"the last":
            kind, flags, _, payload = connection.read_frame(time.monotonic() + 10)
            seen = payload if kind == PING and flags & ACK else b""
    grown = pair.classifier.log.stat().st_size - before
    print(f"{grown} bytes of log for 5,000 wrong frames on {listener}")
    assert grown < 10_000
