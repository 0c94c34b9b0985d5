"""Describes the machine, for every file of figures."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

# Instruction sets on which the speed of matrix products depends.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")


def describe() -> dict[str, object]:
    """Returns processor, cores, instruction sets, memory, kernel, Python, and the load average of the last minute."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"(?m)^model name\s*: (.+)$", information)
    flags = re.search(r"(?m)^(?:flags|Features)\s*: (.+)$", information)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    return {
        "processor": model[1].strip() if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": [name for name in INSTRUCTION_SETS if flags and name in flags[1].split()],
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
