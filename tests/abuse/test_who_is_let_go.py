"""What becomes of clients that never finish. Last of its folder: they have waited since the first test of it."""

from __future__ import annotations

import signal
import time

import pytest
from abused import DRAIN_SECONDS, Pair, end_of_all, pair  # noqa: F401
from patient import SILENT

# The service asks a silent HTTP/2 connection after 30 s whether it lives and closes it after 10 more.
CLOSED_AFTER_SECONDS = 45
NEVER = {
    "says nothing to gRPC": "no time limit until the preface of HTTP/2 has come",
    "says nothing to HTTP": "axum::serve has no time limit until the first byte",
    "stops in gRPC's preface": "no time limit until the preface of HTTP/2 has come",
    "stops in HTTP's preface": "axum::serve has no time limit until it knows the version of HTTP",
    "says hello to HTTP/2 on REST and no more": "axum::serve asks no connection whether it lives",
    "stops in a header of HTTP/1": "axum::serve gives hyper no timer, so its 30 s for headers do not hold",
    "drips a header of HTTP/1": "axum::serve gives hyper no timer, so its 30 s for headers do not hold",
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(name, marks=[pytest.mark.xfail(strict=True, reason=NEVER[name])] if name in NEVER else [])
        for name in SILENT
    ],
)
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
