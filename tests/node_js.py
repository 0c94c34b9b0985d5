"""Node.js. Imports nothing but the standard library, because suites with environments of their own share it."""

from __future__ import annotations

import re
import subprocess
from functools import cache


@cache
def has_node() -> bool:
    """Whether there is a Node.js that the packages of package.json support."""
    try:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except FileNotFoundError:
        return False
    return tuple(map(int, re.findall(r"\d+", version))) >= (20, 19)
