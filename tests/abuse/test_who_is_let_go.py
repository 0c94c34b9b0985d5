"""What becomes of clients that never finish. Last of its folder: they have waited since the first test of it."""

from __future__ import annotations

import signal
import time

import pytest
from abused import DRAIN_SECONDS, Pair, end_of_all, pair  # noqa: F401
from patient import SILENT

# Who does not say which HTTP it speaks is let go after 10 s, who stops in a header of HTTP/1 after 30 s; a silent HTTP/2
# connection is asked after 30 s whether it lives, and closed after 10 more.
CLOSED_AFTER_SECONDS = 45


@pytest.mark.parametrize("kind", SILENT)
def test_a_client_that_does_not_finish_is_let_go(pair: Pair, kind: str) -> None:  # noqa: F811
    left = pair.patient.began + CLOSED_AFTER_SECONDS - time.monotonic()
    assert pair.patient.clients[kind].is_closed(max(left, 0.05)), f"still open after {CLOSED_AFTER_SECONDS} s"


def test_clients_that_do_not_finish_hold_back_no_end_by_sigterm(pair: Pair) -> None:  # noqa: F811
    end_of_all()
    for service in reversed(pair.both()):
        begin = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=DRAIN_SECONDS + 3) == 0
        assert service.lines("panicked") == 0
        print(f"ended after {time.monotonic() - begin:.2f} s")
