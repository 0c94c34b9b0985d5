"""Processes that this benchmark starts: their processor time, memory and end, from /proc
(https://man7.org/linux/man-pages/man5/proc.5.html)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 10.0


class StoppedError(Exception):
    """A process ended by itself."""


@dataclass(frozen=True)
class Memory:
    """Resident memory in MiB. `shared_once` counts each page once, however many processes share it; `peak` is the sum of each
    process's own peak, so it counts shared pages more than once."""

    shared_once: float
    peak: float


class Tree:
    """A process in a session of its own, with everything that it starts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> None:
        self.name = Path(command[0]).name
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def check(self) -> None:
        """Raises StoppedError if the process has ended."""
        if self._process.poll() is not None:
            raise StoppedError(f"{self.name} exited with {self._process.returncode}")

    def members(self) -> list[int]:
        """Returns the ids of the living processes: those of the session, and the children of any of them."""
        found: dict[int, tuple[int, int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (fields := stat(int(entry))) and fields[0] != "Z":
                found[int(entry)] = (int(fields[1]), int(fields[3]))
        members = {pid for pid, (_, session) in found.items() if session == self._process.pid}
        while more := {pid for pid, (parent, _) in found.items() if parent in members} - members:
            members |= more
        return sorted(members)

    def cpu_seconds(self) -> float:
        """Returns the processor time of the living processes and of those of their children that have ended."""
        return sum(sum(map(int, fields[11:15])) for pid in self.members() if (fields := stat(pid))) / TICKS

    def memory(self) -> Memory:
        shared_once = peak = 0.0
        for pid in self.members():
            with contextlib.suppress(OSError):
                shared_once += kilobytes(f"/proc/{pid}/smaps_rollup", "Pss") / 1024
                peak += kilobytes(f"/proc/{pid}/status", "VmHWM") / 1024
        return Memory(shared_once, peak)

    def stop(self) -> None:
        """Ends all processes: first the one that was started, by SIGTERM; then by SIGKILL what is left after ten seconds."""
        members = set(self.members())
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        # A child that outlives its parent has another parent by now, but is still in the session or in the list from before.
        for pid in members | set(self.members()):
            if (fields := stat(pid)) and (int(fields[3]) == self._process.pid or pid in members):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()


def stat(pid: int) -> list[str] | None:
    """Returns the fields of /proc/PID/stat from the state on, or None if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def kilobytes(path: str, key: str) -> int:
    """Returns a value in kB of a file with lines such as `VmHWM: 12 kB`, or 0 if it has no such line."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


@contextlib.contextmanager
def stopped_at_the_end() -> Iterator[list[Tree]]:
    """Yields a list. The trees that are in it at the end are stopped, the last one first."""
    trees: list[Tree] = []
    try:
        yield trees
    finally:
        for tree in reversed(trees):
            tree.stop()


@dataclass(frozen=True)
class Busy:
    """What the processors did since the machine started, in seconds of all of them together."""

    wall: float
    all: float
    stolen: float
    own: float

    @classmethod
    def now(cls) -> Busy:
        fields = [int(value) / TICKS for value in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
        user, nice, system, _idle, _waiting, interrupts, soft, stolen = fields
        return cls(time.monotonic(), user + nice + system + interrupts + soft, stolen, time.process_time())
