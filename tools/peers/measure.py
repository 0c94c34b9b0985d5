"""Starts one peer and measures it: one turn of a round."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .accuracy import Task, cosines, reference_vectors
from .catalogue import Command, Peer
from .clients import CallError, Client, EncoderClient, closed
from .load import Outcomes, closed_loop, one_after_the_other, open_loop, quantile
from .processes import Busy, StoppedError, Tree, stopped_at_the_end

READY_SECONDS = 300.0
CALLERS = 32
BATCH, BATCH_CALLERS = 32, 4
# Peers whose vectors are further from the float32 graph's than the int8 graph's may be do not run the same weights.
MIN_COSINE = 0.96
ENCODED_AT_ONCE = 16


class PeerError(Exception):
    """A peer does not start, does not answer, or answers with other vectors."""


@dataclass(frozen=True)
class Plan:
    """What is measured. `seconds` is the length of a phase; `load` and `overload` are shares of a peer's own capacity."""

    texts: tuple[str, ...]
    seconds: float
    load: float
    overload: float
    deadline: float
    compared: int
    reference: Path
    task: Task | None
    logs: Path


def measure(peer: Peer, plan: Plan, say: Callable[[str], None], *, accuracy: bool) -> dict[str, Any]:
    """Returns the figures of one turn. `accuracy` also compares vectors, which is the same in every turn.

    Raises PeerError; whatever was started has ended by then."""
    plan.logs.mkdir(parents=True, exist_ok=True)
    log_path = plan.logs / f"{peer.name}.log"
    with log_path.open("ab") as log, stopped_at_the_end() as trees:
        try:
            begin = time.monotonic()
            port = first = free_port()
            for number, command in enumerate(peer.commands):
                port = free_port() if number else first
                trees.append(started(command, port, first, log))
            with closed(peer.client(port)) as client:
                wait_until_ready(client, trees, begin)
                figures: dict[str, Any] = {"ready_seconds": time.monotonic() - begin}
                Turn(peer, plan, client, trees, figures, say).run(accuracy=accuracy)
        except (CallError, StoppedError, ValueError, OSError) as error:
            raise PeerError(f"{peer.name}: {error} (its output: {log_path})") from error
    return figures


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(command: Command, port: int, first: int, log: Any) -> Tree:
    # Settings in the environment of this program must not reach the peers.
    dropped = ("ENCODER_SVC_", "CLASSIFIER_SVC_", "OTEL_", "BENTOML_", "INFINITY_", "PYTHONPATH", "ORT_DYLIB_PATH")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    arguments = [argument.format(port=port, first=first) for argument in command.arguments]
    return Tree(arguments, inherited | dict(command.environment), log)


def wait_until_ready(client: Client, trees: list[Tree], begin: float) -> None:
    """Waits for the first vector."""
    request = client.request(["A diver finds a sunken city."])
    while True:
        try:
            client.call(request, 10.0)
            return
        except CallError as error:
            if time.monotonic() - begin > READY_SECONDS:
                raise CallError(f"no vector within {READY_SECONDS:.0f} s; the last error was {error}") from error
        for tree in trees:
            tree.check()
        time.sleep(0.02)


@dataclass
class Turn:
    """The measurement of a running peer."""

    peer: Peer
    plan: Plan
    client: Client
    trees: list[Tree]
    figures: dict[str, Any]
    say: Callable[[str], None]

    def run(self, *, accuracy: bool) -> None:
        texts, seconds = self.plan.texts, self.plan.seconds
        single = [self.client.request([text]) for text in texts]
        self.say("warm-up")
        closed_loop(self.client, single, 1, CALLERS, seconds / 4)
        if accuracy and self.peer.vectors:
            self.say("vectors")
            self.compare()
        self.say("one text alone")
        alone = one_after_the_other(self.client, single, seconds / 2)
        self.add_latencies("alone", alone)
        self.say("bulk")
        capacity = self.bulk()
        self.say(f"{self.plan.load:g} of {capacity:.0f} texts/s")
        with self.counting("load"):
            load = open_loop(self.client, single, self.plan.load * capacity, seconds, self.plan.deadline)
        self.add_outcomes("load", load, capacity)
        self.say(f"{self.plan.overload:g} times the capacity")
        with self.counting("overload"):
            overload = open_loop(self.client, single, self.plan.overload * capacity, seconds, self.plan.deadline)
        self.add_outcomes("overload", overload, capacity)
        # What is late may still run.
        time.sleep(min(1.0, seconds / 4))
        memory = [tree.memory() for tree in self.trees]
        self.figures["memory_mib"] = sum(one.shared_once for one in memory)
        self.figures["memory_peak_mib"] = sum(one.peak for one in memory)

    def compare(self) -> None:
        """Compares vectors of invented texts with the float32 graph's, and encodes the test movies."""
        texts = self.plan.texts[: self.plan.compared]
        found, expected = self.encoded(texts), reference_vectors(self.plan.reference, texts)
        angles = cosines(found, expected)
        if not angles.min() >= MIN_COSINE:
            raise ValueError(f"expected vectors of the same weights, found a cosine of {angles.min():.3f}")
        lengths = np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        self.figures |= {
            "cosine_mean": float(angles.mean()),
            "cosine_min": float(angles.min()),
            "length_ratio": float(lengths.mean()),
        }
        if self.plan.task:
            self.figures["micro_f1"] = self.plan.task.micro_f1(self.encoded(self.plan.task.texts()))

    def encoded(self, texts: tuple[str, ...] | list[str]) -> np.ndarray:
        """Returns the peer's vectors `[texts, 512]`."""
        vectors: list[list[float]] = []
        for begin in range(0, len(texts), ENCODED_AT_ONCE):
            request = self.client.request(texts[begin : begin + ENCODED_AT_ONCE], bulk=True)
            vectors += self.client.vectors(self.client.call(request, 60.0))
        return np.array(vectors, dtype=np.float32)

    def bulk(self) -> float:
        """Measures every way to send many texts. Returns the capacity: texts per second in calls of one text."""
        texts, seconds = self.plan.texts, self.plan.seconds
        single = [self.client.request([text], bulk=True) for text in texts]
        batches = [self.client.request(texts[at : at + BATCH], bulk=True) for at in range(0, len(texts) - BATCH + 1, BATCH)]
        ways: dict[str, Callable[[], tuple[int, float]]] = {
            "single": lambda: closed_loop(self.client, single, 1, CALLERS, seconds),
            "batch": lambda: closed_loop(self.client, batches, BATCH, BATCH_CALLERS, seconds),
        }
        if isinstance(client := self.client, EncoderClient):
            ways["stream"] = lambda: streamed(client, texts, seconds)
        for name, way in ways.items():
            with self.counting(f"bulk_{name}"):
                cpu = self.cpu_seconds()
                count, took = way()
                cpu = self.cpu_seconds() - cpu
            self.figures[f"bulk_{name}_texts_per_second"] = count / took
            self.figures[f"bulk_{name}_cpu_ms_a_text"] = 1000 * cpu / count
        best = max(ways, key=lambda name: self.figures[f"bulk_{name}_texts_per_second"])
        for figure in ("texts_per_second", "cpu_ms_a_text"):
            self.figures[f"bulk_{figure}"] = self.figures[f"bulk_{best}_{figure}"]
        self.figures["bulk_way"] = best
        return float(self.figures["bulk_single_texts_per_second"])

    def cpu_seconds(self) -> float:
        return sum(tree.cpu_seconds() for tree in self.trees)

    @contextlib.contextmanager
    def counting(self, phase: str) -> Iterator[None]:
        """Records who used the processors during a phase, as shares of all of them."""
        before, cpu = Busy.now(), self.cpu_seconds()
        yield
        after, cpu = Busy.now(), self.cpu_seconds() - cpu
        seconds = (after.wall - before.wall) * (os.cpu_count() or 1)
        own = after.own - before.own
        others = max(0.0, after.all - before.all - own - cpu)
        self.figures[f"{phase}_shares"] = {
            "peer": cpu / seconds,
            "client": own / seconds,
            "others": others / seconds,
            "stolen": (after.stolen - before.stolen) / seconds,
        }

    def add_latencies(self, phase: str, seconds: list[float]) -> None:
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            value = quantile(seconds, share)
            self.figures[f"{phase}_{name}_ms"] = None if value is None else 1000 * value
        self.figures[f"{phase}_calls"] = len(seconds)

    def add_outcomes(self, phase: str, outcomes: Outcomes, capacity: float) -> None:
        self.add_latencies(phase, outcomes.served)
        calls = max(outcomes.calls, 1)
        rejected = quantile(outcomes.rejected, 0.99)
        self.figures |= {
            f"{phase}_calls": outcomes.calls,
            f"{phase}_served_share": len(outcomes.served) / calls,
            f"{phase}_rejected_share": len(outcomes.rejected) / calls,
            f"{phase}_late_share": outcomes.late / calls,
            f"{phase}_failed_share": len(outcomes.failed) / calls,
            f"{phase}_goodput_ratio": len(outcomes.served) / outcomes.seconds / capacity,
            f"{phase}_rejection_p99_ms": None if rejected is None else 1000 * rejected,
            f"{phase}_first_failure": outcomes.failed[0] if outcomes.failed else None,
        }


def streamed(client: EncoderClient, texts: tuple[str, ...], seconds: float) -> tuple[int, float]:
    begin = last = time.monotonic()
    count = 0
    for last in client.stream(texts, seconds):
        count += 1
    if not count:
        raise CallError("every text of the stream was rejected")
    return count, last - begin
