"""Puts the export's modules on the path, and builds one tiny bundle for all tests to read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXPORT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(EXPORT))
sys.path.insert(0, str(EXPORT / "tools"))


@pytest.fixture(scope="session")
def tiny_bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_bundle import build_tiny

    folder = tmp_path_factory.mktemp("bundles") / "tiny-512"
    build_tiny(folder, seed=1)
    return folder
