"""The tools that `make test-clients` and `make test-proto` install."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT
from node_js import has_node

TOOLS = Path(os.environ.get("CLIENT_TOOLS", ROOT / ".runtime" / "client-tools")).absolute()


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
