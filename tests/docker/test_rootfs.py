"""deploy/docker/rootfs.sh, which needs no Docker engine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy/docker/rootfs.sh"


@pytest.mark.parametrize("target", ["rootfs", "{folder}/rootfs"])
def test_copies_the_libraries_from_any_working_folder(target: str, tmp_path: Path) -> None:
    if shutil.which("dpkg") is None or not Path("/etc/ssl/certs/ca-certificates.crt").exists():
        pytest.skip("needs Debian with ca-certificates")
    command = ["sh", SCRIPT, target.format(folder=tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("libc.so.6", "libstdc++.so.6"):
        (found,) = (tmp_path / "rootfs").glob(f"usr/lib/*/{name}")
        assert found.stat().st_size > 100_000
    assert (tmp_path / "rootfs/lib").readlink() == Path("usr/lib")
