"""Full and read-only disks under each command of the trainer that writes files.

The disks are in-memory file systems of a few hundred kilobytes, which only root can mount.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from abused import Pair, pair  # noqa: F401
from conftest import BINARIES, ROOT
from movies import write_movies

MOVIES = 600
FULL, READ_ONLY = "No space left on device", "Read-only file system"
OURS = "what was there before"


@dataclass(frozen=True)
class Disk:
    """A mounted file system."""

    path: Path

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def fill(self) -> None:
        """Fills the disk to the last byte."""
        with (self.path / "filler").open("wb", buffering=0) as filler:
            for block in (4096, 1):
                try:
                    while filler.write(bytes(block)):
                        pass
                except OSError:
                    continue

    def names(self) -> list[str]:
        return sorted(str(file.relative_to(self.path)) for file in self.path.rglob("*") if file.is_file())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", path], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", path], check=True)


@dataclass(frozen=True)
class Movies:
    """Made-up movies and their vectors."""

    csv: Path
    vectors: Path


@pytest.fixture(scope="session")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Movies:
    folder = tmp_path_factory.mktemp("movies")
    csv = folder / "movies.csv"
    write_movies(csv, MOVIES)
    return Movies(csv, folder / "vectors.parquet")


def trainer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BINARIES / "trainer", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def encode(pair: Pair, movies: Movies, output: Path) -> subprocess.CompletedProcess[str]:  # noqa: F811
    return trainer(
        *("encode", "--input", movies.csv, "--encoder", f"http://{pair.encoder.grpc}"),
        *("--resume-chunk", "64", "--output", output),
    )


@pytest.fixture
def encoded(pair: Pair, movies: Movies) -> Movies:  # noqa: F811
    if not movies.vectors.exists():
        assert encode(pair, movies, movies.vectors).returncode == 0
    return movies


def assert_refused(run: subprocess.CompletedProcess[str], disk: Disk, why: str) -> None:
    assert run.returncode == 1, run.stderr
    assert why in run.stderr, run.stderr
    assert str(disk.path) in run.stderr, f"the error does not name the path: {run.stderr}"
    assert "panicked" not in run.stderr


def test_encode_resumes_after_the_disk_was_full(pair: Pair, encoded: Movies, disk: Disk) -> None:  # noqa: F811
    output = disk.path / "vectors.parquet"
    assert_refused(encode(pair, encoded, output), disk, FULL)
    assert not output.exists()
    parts = [name for name in disk.names() if name.endswith(".parquet")]
    assert parts, "expected the checkpoint to be kept"
    disk.mount("size=16m")
    run = encode(pair, encoded, output)
    assert run.returncode == 0, run.stderr
    assert output.read_bytes() == encoded.vectors.read_bytes(), "the interruption changed the result"
    assert disk.names() == ["vectors.parquet"]


def commands(movies: Movies, folder: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Returns each command that writes a file, with its file. `encode` has separate tests."""
    vectors: list[str | Path] = ["--vectors", movies.vectors]
    return {
        "prepare": (["prepare", "--input", movies.csv, "--output", folder / "movies.parquet"], "movies.parquet"),
        "fit": (["fit", *vectors, "--epochs", "1", "--output", folder / "m.safetensors"], "m.safetensors"),
        "search": (["search", *vectors, "--trials", "2", "--epochs", "1", "--output", folder], "model.safetensors"),
        "report": (["report", *vectors, "--model", folder.parent / "m.safetensors", "--output", folder / "R.md"], "R.md"),
    }


@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.parametrize("command", ["prepare", "fit", "search", "report"])
def test_failed_write_keeps_the_old_file(encoded: Movies, disk: Disk, command: str, fault: str) -> None:
    arguments, name = commands(encoded, disk.path)[command]
    if command == "report":
        model = disk.path.parent / "m.safetensors"
        assert trainer("fit", "--vectors", encoded.vectors, "--epochs", "1", "--output", model).returncode == 0
    (disk.path / name).write_text(OURS)
    if fault == "full":
        disk.fill()
    else:
        disk.mount("ro")
    before = disk.names()
    # Without --force, a file of another kind is not replaced in the first place.
    assert_refused(trainer(*arguments, "--force"), disk, FULL if fault == "full" else READ_ONLY)
    assert (disk.path / name).read_text() == OURS
    assert [left for left in disk.names() if left not in before and (disk.path / left).stat().st_size] == []


def test_encode_rejects_a_read_only_folder_before_encoding(
    pair: Pair,  # noqa: F811
    encoded: Movies,
    disk: Disk,
) -> None:
    disk.mount("ro")
    before = pair.encoder.cpu_seconds()
    assert_refused(encode(pair, encoded, disk.path / "vectors.parquet"), disk, READ_ONLY)
    assert pair.encoder.cpu_seconds() - before < 0.5
