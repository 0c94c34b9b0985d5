"""Tables that unpack to much more than they are: memory stays bounded, and nothing is left on disk."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from conftest import BINARIES, ROOT
from proc import wait_for_peak

MIB = 1 << 20
HEADER = b"id,title,overview,genres\n"
# The process itself, its buffers, and a row of 1 MiB.
MOST_RESIDENT = 100 * MIB


def row(number: int, overview: bytes) -> bytes:
    return b"%d,T,%s,Drama\n" % (number, overview)


def run(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Runs the trainer, and returns its outcome and the most memory that it held, in bytes."""
    process = subprocess.Popen(
        [BINARIES / "trainer", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peak = wait_for_peak(process)
    out, errors = process.communicate(timeout=300)
    assert peak > 0
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors), peak


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_long_rows_are_dropped_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    table = tmp_path / "movies.csv"
    text = HEADER + b"".join(row(number, b"a storm " * (MIB // 8 - 64)) for number in range(300))
    text += b"".join(row(number, b"a storm") for number in range(300, 700))
    if kind == "gzip":
        table.write_bytes(gzip.compress(text, 9))
    else:
        with zipfile.ZipFile(table, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("movies.csv", text)
    assert table.stat().st_size < MIB
    done, resident = run(tmp_path, "prepare", "--input", str(table), "--output", str(tmp_path / "m.parquet"))
    assert done.returncode == 0, done.stderr
    assert "300 dropped, text too long" in " ".join(done.stdout.split()), done.stdout
    assert resident < MOST_RESIDENT, f"{resident / MIB:.0f} MiB"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.parquet", "movies.csv"]


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_a_zip_archive_leaves_no_file_when_its_reader_is_stopped(tmp_path: Path, source: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        text = HEADER + b"".join(row(number, b"a storm " * 100) for number in range(300_000))
        archive.writestr("movies.csv", text)
    table, temporary = tmp_path / "movies.zip", tmp_path / "tmp"
    table.write_bytes(packed.getvalue())
    temporary.mkdir()
    name = str(table) if source == "file" else "-"
    command = [BINARIES / "trainer", "prepare", "--input", name, "--output", str(tmp_path / "out" / "m.parquet")]
    with table.open("rb") as content:
        process = subprocess.Popen(
            command,
            stdin=content,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
    time.sleep(0.5)
    assert process.poll() is None, "too small a table to be stopped midway"
    assert list(temporary.iterdir()) == [], "nothing is unpacked to disk"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) != 0
    assert list(temporary.iterdir()) == []


def test_unpacked_bytes_are_limited(tmp_path: Path) -> None:
    table = tmp_path / "movies.csv.gz"
    table.write_bytes(gzip.compress(HEADER + row(1, b"a storm") * 1_000_000, 9))
    arguments = ("prepare", "--input", str(table), "--output", str(tmp_path / "m.parquet"))
    done, _ = run(tmp_path, *arguments, "--max-input-bytes", "1000000")
    assert done.returncode == 1, done.stdout
    assert "expected at most 1000000 bytes of input after unpacking" in done.stderr, done.stderr
    assert not (tmp_path / "m.parquet").exists()
