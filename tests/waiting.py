"""Waits for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], what: str | None = None, seconds: float = 10) -> None:
    """Waits until `condition` holds. Fails after `seconds` with the description `what`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what or condition}: not after {seconds} s"
        time.sleep(0.05)
