"""Jumps of the wall clock, as after a time correction. `wall_clock.c` provides the services' clock."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from abused import CLASSIFIER, Pair, kill, start_pair
from load import Load
from reflection import ReflectionClient

DAY = 86_400


class Clock:
    """The services' wall clock."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "offset"
        self.set(0)

    def set(self, offset: int) -> None:
        draft = self.file.with_suffix(".draft")
        draft.write_text(f"{offset}\n")
        draft.rename(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def pair(clock: Clock, tmp_path: Path) -> Iterator[Pair]:
    library = tmp_path / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, source], check=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("WALL_CLOCK_FILE", str(clock.file))
        pair = start_pair(tmp_path)
    try:
        yield pair
    finally:
        for service in pair.both():
            kill(service)
            assert service.lines("panicked") == 0, service.tail()


def days_in_log(pair: Pair) -> set[str]:
    return {line[:10] for line in pair.classifier.log.read_text().splitlines() if line.startswith("20")}


def test_clock_jump_affects_no_call(pair: Pair, clock: Clock) -> None:
    with Load(pair.classifier.grpc) as load:
        for offset in (-DAY, 0, DAY, -3600, 0, -DAY):
            time.sleep(0.7)
            clock.set(offset)
        time.sleep(0.7)
    assert load.failures == []
    print(f"{len(load.seconds)} calls, none failed, the slowest took {max(load.seconds):.3f} s")
    assert len(load.seconds) > 50
    # The last line of the log is a day before the first one, so the clock did jump.
    pair.classifier.process.send_signal(signal.SIGTERM)
    pair.classifier.process.wait(timeout=10)
    assert len(days_in_log(pair)) == 2, days_in_log(pair)


def test_deadline_holds_while_the_clock_goes_back(pair: Pair, clock: Clock) -> None:
    with grpc.insecure_channel(pair.classifier.grpc) as channel:
        client = ReflectionClient(channel)
        client.call(CLASSIFIER, "Classify", timeout=5, overview="A storm is coming.")
        # The encoder is stopped, so only the deadline can end the call.
        pair.encoder.process.send_signal(signal.SIGSTOP)
        try:
            for offset in (-DAY, 0, -3600):
                begin = time.monotonic()
                clock.set(offset)
                with pytest.raises(grpc.RpcError) as failure:
                    client.call(CLASSIFIER, "Classify", timeout=1, overview=f"A storm at {begin}.")
                assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                assert 0.8 < time.monotonic() - begin < 1.5
        finally:
            pair.encoder.process.send_signal(signal.SIGCONT)
