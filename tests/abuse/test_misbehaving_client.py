"""Clients that misbehave at random on every listener at once: others are served, and memory stays within the bound.

ABUSE_SECONDS and ABUSE_SEED replace the five seconds and the seed; `make misbehave` runs five minutes of another seed each day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
from abused import FRESH_OVER_PLAIN_AND_TLS, MIB, Pair, fresh_pair  # noqa: F401
from bounds import growth_bound
from misbehaving import CONNECTIONS
from waiting import wait_for

SECONDS = float(os.environ.get("ABUSE_SECONDS", "5"))
SEED = int(os.environ.get("ABUSE_SEED", "1"))
SERVED_WITHIN = 5.0
"""Seconds of a well-behaved call beside four misbehaving clients on the same two cores."""
FREED = 48 * MIB
"""What may remain for a moment of the memory that the clients made the services take: the allocators' caches."""


def served(pair: Pair, retried: Counter[str]) -> list[str]:  # noqa: F811
    """Makes one call of each kind, retried for `SERVED_WITHIN` seconds as clients do, and returns those that failed."""
    failed = []
    for name, call in {
        "Encode": lambda: pair.encode(timeout=SERVED_WITHIN),
        "Classify": lambda: pair.classify(timeout=SERVED_WITHIN),
        "encoder /livez": lambda: pair.encoder.get("/livez", timeout=SERVED_WITHIN),
        "classifier /readyz": lambda: pair.classifier.get("/readyz", timeout=SERVED_WITHIN),
    }.items():
        end = time.monotonic() + SERVED_WITHIN
        while (problem := attempt(call)) and time.monotonic() < end:
            retried[f"{name}: {problem}"] += 1
            time.sleep(0.1)
        if problem:
            failed.append(f"{name}: {problem}")
    return failed


def attempt(call: Callable[[], int | None]) -> str | None:
    """Makes a call and returns what went wrong."""
    try:
        status = call()
    except grpc.RpcError as error:
        return str(error.code())
    except OSError as error:
        return repr(error)
    return None if status in (None, 200) else str(status)


@FRESH_OVER_PLAIN_AND_TLS
def test_misbehaving_clients_harm_nobody(fresh_pair: Pair) -> None:  # noqa: F811
    pair = fresh_pair  # noqa: F811
    before = [(service.resident(), service.descriptors()) for service in pair.both()]
    most = [resident for resident, _ in before]
    clients = []
    for number, (name, service, listener) in enumerate(
        (name, service, listener)
        for name, service in zip(("encoder", "classifier"), pair.both(), strict=True)
        for listener in ("grpc", "http")
    ):
        command = [sys.executable, Path(__file__).with_name("misbehaving.py"), "--address", service.address(listener)]
        command += ["--kind", f"{name}-{listener}", "--seed", str(SEED * 4 + number), "--seconds", str(SECONDS)]
        command += ["--ca", str(service.tls.certificate)] if service.tls else []
        clients.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    retried = Counter[str]()
    rounds, failed, slowest, end = 0, list[str](), 0.0, time.monotonic() + SECONDS
    try:
        while any(client.poll() is None for client in clients):
            assert time.monotonic() < end + 30, "the clients did not end"
            begin = time.monotonic()
            failed += served(pair, retried)
            rounds, slowest = rounds + 1, max(slowest, time.monotonic() - begin)
            most = [max(now, service.resident()) for now, service in zip(most, pair.both(), strict=True)]
            time.sleep(0.1)
    finally:
        for client in clients:
            client.kill()
    for client in clients:
        did = json.loads(client.communicate()[0])
        assert did["connect"] > 5 and did["whole_request"] > 20, did
        print(f"{sum(did.values())} actions: {did}")
    for service, at_most, (resident, _) in zip(pair.both(), most, before, strict=True):
        name = service.log.stem
        bound = resident + growth_bound(service, 2 * CONNECTIONS)
        print(f"seed {SEED}: {name} {resident / MIB:.0f} -> {at_most / MIB:.0f} MiB, bound {bound / MIB:.0f}")
        assert at_most < bound
    print(f"{rounds} rounds of calls beside them, the slowest took {slowest:.2f} s; retried: {dict(retried)}")
    assert failed == []
    for service, (resident, descriptors) in zip(pair.both(), before, strict=True):
        service.assert_no_panic()
        wait_for(lambda service=service, most=descriptors: service.descriptors() <= most + 4, "descriptors to be freed", 15)
        wait_for(lambda service=service, most=resident: service.resident() < most + FREED, "memory to be freed", 15)
