"""What Linux tells of a process in /proc (https://man7.org/linux/man-pages/man5/proc.5.html)."""

from __future__ import annotations

import os
from pathlib import Path


def status(pid: int, key: str) -> int:
    """A number of /proc/PID/status, such as VmRSS in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def resident(pid: int) -> int:
    """Bytes."""
    return status(pid, "VmRSS") * 1024


def descriptors(pid: int) -> int:
    """Files and sockets that it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
