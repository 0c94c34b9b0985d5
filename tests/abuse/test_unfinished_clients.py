"""Timeouts of clients that never finish. It runs last in its folder, because they connect before the first test."""

from __future__ import annotations

import signal
import time

import pytest
from abused import DRAIN_SECONDS, OVER_PLAIN_AND_TLS, Pair, end_of_all, pair  # noqa: F401
from patient import SILENT

# Protocol detection times out after 10 s and a header of HTTP/1 after 30 s. A silent HTTP/2 connection gets a PING after
# 30 s and is closed 10 s later.
CLOSED_AFTER_SECONDS = 45
pytestmark = OVER_PLAIN_AND_TLS


@pytest.mark.parametrize("kind", SILENT)
def test_disconnects_an_unfinished_client(pair: Pair, kind: str) -> None:  # noqa: F811
    left = pair.patient.began + CLOSED_AFTER_SECONDS - time.monotonic()
    assert pair.patient.clients[kind].is_closed(max(left, 0.05)), f"still open after {CLOSED_AFTER_SECONDS} s"


def test_unfinished_clients_do_not_delay_shutdown(pair: Pair) -> None:  # noqa: F811
    end_of_all(pair)
    for service in reversed(pair.both()):
        begin = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=DRAIN_SECONDS + 3) == 0
        assert service.lines("panicked") == 0
        print(f"exited after {time.monotonic() - begin:.2f} s")
