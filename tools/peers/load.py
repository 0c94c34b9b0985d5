"""Makes load: callers that wait for their replies (closed loop), and calls at a rate that does not depend on them (open loop)."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .clients import CallError, Client, LateError, RejectedError

# A caller of a closed loop waits this long for its reply, and this long after a rejection.
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.05


def quantile(values: Sequence[float], share: float) -> float | None:
    """Returns the value below which `share` of the values are, or None if there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def closed_loop(client: Client, requests: Sequence[bytes], per_request: int, callers: int, seconds: float) -> tuple[int, float]:
    """Callers send request after request for `seconds`. Returns the texts, `per_request` in each, and the time that they took.

    A call that was rejected or late is made again after a pause, and the callers go on until there is at least one reply. Raises
    CallError if a call fails, or if there is no reply within PATIENCE_SECONDS."""
    turns = itertools.count()
    begin = time.monotonic()
    end = begin + seconds
    done = [0] * callers
    last = [begin] * callers
    stopped = threading.Event()

    def call(caller: int) -> None:
        try:
            while not stopped.is_set():
                now = time.monotonic()
                if now > end and (any(done) or now > begin + PATIENCE_SECONDS):
                    return
                try:
                    client.call(requests[next(turns) % len(requests)], PATIENCE_SECONDS)
                except (RejectedError, LateError):
                    time.sleep(RETRY_SECONDS)
                    continue
                done[caller] += per_request
                last[caller] = time.monotonic()
        except CallError:
            stopped.set()
            raise

    with ThreadPoolExecutor(callers) as pool:
        for future in [pool.submit(call, caller) for caller in range(callers)]:
            future.result()
    if not any(done):
        raise CallError(f"every call within {time.monotonic() - begin:.1f} s was rejected or late")
    return sum(done), max(last) - begin


def one_after_the_other(client: Client, requests: Sequence[bytes], seconds: float) -> list[float]:
    """Returns the latencies, in seconds, of single calls on an otherwise idle server."""
    latencies: list[float] = []
    end = time.monotonic() + seconds
    for request in itertools.cycle(requests):
        begin = time.monotonic()
        if begin > end:
            return latencies
        client.call(request, PATIENCE_SECONDS)
        latencies.append(time.monotonic() - begin)
    raise ValueError("expected at least one request, found none")


@dataclass
class Outcomes:
    """How the calls of an open loop ended. Latencies are in seconds from the moment at which a call was due."""

    calls: int = 0
    seconds: float = 0.0
    served: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    late: int = 0
    failed: list[str] = field(default_factory=list)


def open_loop(client: Client, requests: Sequence[bytes], rate: float, seconds: float, deadline: float, seed: int = 1) -> Outcomes:
    """Makes `rate` calls per second for `seconds` at random moments, each with a deadline in seconds.

    The moments are those of a Poisson process, the same for the same seed, because callers do not know of each other."""
    source = random.Random(seed)
    outcomes = Outcomes()

    def call(request: bytes, due: float) -> None:
        left = due + deadline - time.monotonic()
        try:
            if left <= 0:
                raise LateError("the client itself was late")
            client.call(request, left)
        except RejectedError:
            outcomes.rejected.append(time.monotonic() - due)
        except LateError:
            outcomes.late += 1
        except CallError as error:
            outcomes.failed.append(str(error))
        else:
            took = time.monotonic() - due
            if took <= deadline:
                outcomes.served.append(took)
            else:
                outcomes.late += 1

    begin = due = time.monotonic()
    # As many calls as can be in flight before their deadlines, and some more.
    with ThreadPoolExecutor(min(int(1.5 * rate * deadline) + 32, 4000)) as pool:
        futures = []
        for request in itertools.cycle(requests):
            due += source.expovariate(rate)
            if due > begin + seconds:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            futures.append(pool.submit(call, request, due))
        for future in futures:
            future.result()
    outcomes.calls, outcomes.seconds = len(futures), seconds
    return outcomes
