"""Reads a process's figures from /proc (https://man7.org/linux/man-pages/man5/proc.5.html)."""

from __future__ import annotations

import os
from pathlib import Path


def status(pid: int, key: str) -> int:
    """Returns a number of /proc/PID/status, such as VmRSS in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def resident(pid: int) -> int:
    """Returns the resident memory in bytes."""
    return status(pid, "VmRSS") * 1024


def descriptors(pid: int) -> int:
    """Returns the number of open files and sockets."""
    return len(os.listdir(f"/proc/{pid}/fd"))
