"""HTTP/2 frames by the thousand, each of which costs its sender nothing."""

from __future__ import annotations

import pytest
from abused import CLASSIFIER, MIB, Pair, Service, pair  # noqa: F401
from http2 import (
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Connection,
    call_headers,
    fields,
    frame,
)

ENHANCE_YOUR_CALM = 11
CLASSIFY = f"/{CLASSIFIER}/Classify"
LISTENERS = ["grpc", "http"]


def address(service: Service, listener: str) -> str:
    return service.grpc if listener == "grpc" else service.http


@pytest.mark.parametrize("listener", LISTENERS)
def test_streams_that_are_opened_and_reset_at_once_end_the_connection(pair: Pair, listener: str) -> None:  # noqa: F811
    """Rapid reset, CVE-2023-44487."""
    before = pair.classifier.resident()
    block, reset = fields(call_headers(CLASSIFY)), CANCEL.to_bytes(4, "big")
    with Connection(address(pair.classifier, listener)) as connection:
        for first in range(1, 20_000, 200):
            streams = range(first, first + 200, 2)
            opened = (
                frame(HEADERS, block, END_HEADERS, stream) + frame(RST_STREAM, reset, 0, stream) for stream in streams
            )
            if not connection.send(*opened):
                break
        print(f"{first // 2} streams were sent until the end was noticed")
        pair.assert_others_are_served()
        answer = connection.answer(1)
        assert answer.closed and answer.goaway in (ENHANCE_YOUR_CALM, None), answer
    assert pair.classifier.resident() - before < 16 * MIB


@pytest.mark.parametrize("listener", LISTENERS)
def test_headers_that_go_on_for_ever_end_the_connection(pair: Pair, listener: str) -> None:  # noqa: F811
    """CONTINUATION flood, CVE-2024-27316."""
    before = pair.classifier.resident()
    with Connection(address(pair.classifier, listener)) as connection:
        connection.send(frame(HEADERS, fields(call_headers(CLASSIFY)), 0, 1))
        for number in range(2_000):
            block = fields([(f"x-{number}", "a" * 8_000)])
            if not connection.send(frame(CONTINUATION, block, 0, 1)):
                break
        else:
            pytest.fail("16 MB of headers were taken")
        print(f"{number} frames of 8 kB were sent until the end was noticed")
        pair.assert_others_are_served()
    assert pair.classifier.resident() - before < 16 * MIB


@pytest.mark.parametrize("listener", LISTENERS)
def test_empty_continuations_end_the_connection(pair: Pair, listener: str) -> None:  # noqa: F811
    with Connection(address(pair.classifier, listener)) as connection:
        connection.send(frame(HEADERS, fields(call_headers(CLASSIFY)), 0, 1))
        connection.send(frame(CONTINUATION, b"", 0, 1) * 10_000)
        assert connection.is_closed(5)


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("kind", ["PING", "SETTINGS"])
def test_frames_that_ask_for_an_answer_take_no_memory(pair: Pair, listener: str, kind: str) -> None:  # noqa: F811
    """And the answers are not read either: CVE-2019-9512, CVE-2019-9515."""
    before = pair.classifier.resident()
    asked = frame(PING, b"abcdefgh") if kind == "PING" else frame(SETTINGS)
    with Connection(address(pair.classifier, listener)) as connection:
        connection.socket.settimeout(1)
        sent = 0
        while sent < 64 * MIB:
            try:
                if not connection.send(asked * 5_000):
                    break
            except TimeoutError:
                # The service reads nothing while its answers are not taken: as it should be.
                break
            sent += len(asked) * 5_000
        print(f"{sent // len(asked)} frames of {kind} were taken on {listener}")
        pair.assert_others_are_served()
        assert pair.classifier.resident() - before < 8 * MIB
