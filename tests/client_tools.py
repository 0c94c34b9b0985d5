"""The tools that `make test-clients` and `make test-proto` install."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

TOOLS = Path(os.environ.get("CLIENT_TOOLS", ROOT / ".runtime" / "client-tools")).absolute()


@cache
def has_node() -> bool:
    """Whether there is a Node.js that the packages of package.json support."""
    try:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except FileNotFoundError:
        return False
    return tuple(map(int, re.findall(r"\d+", version))) >= (20, 19)


def node_tool(name: str) -> Path:
    """Returns a program of package.json. Skips the test if it is not installed."""
    path = TOOLS / "node" / "node_modules" / ".bin" / name
    if not has_node() or not path.exists():
        pytest.skip(f"{name} is not installed: run `make test-clients`, which needs Node.js 20.19 or later and npm")
    return path


def python_tool(name: str) -> Path:
    """Returns a program of requirements.txt. Skips the test if it is not installed."""
    path = TOOLS / "python" / "bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed: run `make test-clients`")
    return path
