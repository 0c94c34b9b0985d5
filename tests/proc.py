"""Reads a process's figures from /proc (https://man7.org/linux/man-pages/man5/proc.5.html)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path


def status(pid: int, key: str) -> int:
    """Returns a number of /proc/PID/status, such as VmRSS in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def resident(pid: int) -> int:
    """Returns the resident memory in bytes."""
    return status(pid, "VmRSS") * 1024


def reset_peak(pid: int) -> None:
    """Sets VmHWM, the highest resident memory, to the resident memory of now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """Returns the number of open files and sockets."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_for_peak(process: subprocess.Popen) -> int:
    """Waits until a process has ended, and returns the most resident memory that it was seen to hold, in bytes.

    `ru_maxrss` does not fit: a child begins with that of the process that started it."""
    most = 0
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, StopIteration):
            most = max(most, status(process.pid, "VmHWM") * 1024)
        time.sleep(0.005)
    return most
