"""Builds the package as a user would: a source archive, from it a wheel, and that installed into an empty folder."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

# The environment of `make test-python-client` has all of them. Without one, importing this module skips the tests.
import hatchling  # noqa: F401
import mypy_protobuf  # noqa: F401
import pandas  # noqa: F401
import polars  # noqa: F401
import pyarrow  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "python"


@dataclass(frozen=True)
class Built:
    """What the build made."""

    archive: Path
    wheel: Path
    installed: Path
    """The folder that contains the installed package."""


def build(folder: Path, target: str, out: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (made,) = (path for path in out.iterdir() if path.suffix == (".gz" if target == "sdist" else ".whl"))
    return made


def build_all(out: Path) -> Built:
    archive = build(CLIENT, "sdist", out)
    with tarfile.open(archive) as tar:
        tar.extractall(out / "unpacked", filter="data")
    (unpacked,) = (out / "unpacked").iterdir()
    wheel = build(unpacked, "wheel", out)
    # What pip does with a wheel of pure Python, which the test of the package installs by pip itself.
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(out / "installed")], check=True)
    return Built(archive, wheel, out / "installed")


# Before the tests import the package. Python removes the folder at its end.
FOLDER = tempfile.TemporaryDirectory()
BUILT = build_all(Path(FOLDER.name))
sys.path.insert(0, str(BUILT.installed))
