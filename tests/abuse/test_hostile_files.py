"""Files from others that the trainer reads: they must not write outside its folders nor take memory or disk without bound."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from abused import MIB, Pair, pair  # noqa: F401
from conftest import BINARIES, ROOT
from movies import write_movies
from proc import wait_for_peak

PEAK_MIB = 300
"""The trainer's resident memory, whatever the input unpacks to."""
HEADER = "id,title,overview,genres\n"


@dataclass(frozen=True)
class Run:
    """How a command ended, and the most memory that it held."""

    code: int
    errors: str
    peak_mib: float


def trainer(*arguments: str | Path, folder: Path, **variables: str) -> Run:
    """Runs the trainer in `folder`."""
    command = [BINARIES / "trainer", *arguments]
    environment = os.environ | {"ORT_DYLIB_PATH": str(ROOT / ".runtime/lib/libonnxruntime.so")} | variables
    with (folder / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        peak = wait_for_peak(process)
        errors.seek(0)
        return Run(process.returncode, errors.read(), peak / (1 << 20))


@pytest.fixture
def shards(pair: Pair, tmp_path: Path) -> Path:  # noqa: F811
    """A folder with the two shards of a job."""
    write_movies(tmp_path / "movies.csv", 40)
    for shard in range(2):
        run = trainer(
            *("encode", "--input", "movies.csv", "--encoder", f"http://{pair.encoder.grpc}"),
            *("--shard", f"{shard}/2", "--output", "shards"),
            folder=tmp_path,
        )
        assert run.code == 0, run.errors
    return tmp_path / "shards"


@pytest.mark.parametrize("command", ["merge", "fit", "search", "report", "evaluate"])
@pytest.mark.parametrize("form", ["absolute", "relative", "parent", "other name"])
def test_manifest_cannot_name_a_file_outside_the_folder(shards: Path, command: str, form: str) -> None:
    folder = shards.parent
    outside = folder / "outside"
    outside.mkdir()
    names = {
        "absolute": f"{outside}/written.parquet",
        "relative": "sub/written.parquet",
        "parent": "../outside/written.parquet",
        "other name": "written.parquet",
    }
    name = names[form]
    manifest = next(file for file in sorted(shards.iterdir()) if file.suffix == ".json")
    said = json.loads(manifest.read_text())
    # Where the store of shards finds the file: it takes the whole name as one part of a path.
    shutil.copy(shards / said["file"], shards / name.replace("/", "%2F"))
    manifest.write_text(json.dumps(said | {"file": name}))
    before = sorted(folder.rglob("*"))
    arguments: dict[str, tuple[str | Path, ...]] = {
        "merge": ("--shards", "shards", "--output", "vectors.parquet"),
        "fit": ("--vectors", "shards", "--epochs", "1", "--output", "m.safetensors"),
        "search": ("--vectors", "shards", "--trials", "1", "--epochs", "1", "--output", "search"),
        "report": ("--vectors", "shards", "--model", ROOT / "models/default.safetensors", "--output", "R.md"),
        "evaluate": ("--vectors", "shards", "--split", "test", "--model", ROOT / "models/default.safetensors"),
    }
    run = trainer(command, *arguments[command], folder=folder)
    written = [file for file in sorted(folder.rglob("*")) if file not in before and file.name.endswith("written.parquet")]
    assert written == [], f"{command} wrote {written}"
    assert run.code != 0 and "panicked" not in run.errors, run.errors
    assert "shards" in run.errors, f"the error does not name the folder: {run.errors}"


def huge_rows(file: Path, rows: int) -> None:
    """Writes `rows` movies of 1 MB each to a gzip file."""
    with gzip.open(file, "wt", compresslevel=1) as sink:
        sink.write(HEADER)
        for number in range(rows):
            sink.write(f"{number},T,{'a ' * 500_000},\"[{{'id': 18, 'name': 'Drama'}}]\"\n")


def test_rows_of_a_megabyte_take_no_memory(tmp_path: Path) -> None:
    huge_rows(tmp_path / "movies.csv.gz", 400)
    size = (tmp_path / "movies.csv.gz").stat().st_size
    run = trainer("prepare", "--input", "movies.csv.gz", "--output", "movies.parquet", folder=tmp_path)
    print(f"prepare of {size / 1e6:.1f} MB of gzip: {run.peak_mib:.0f} MiB, exit code {run.code}")
    assert run.peak_mib < PEAK_MIB and "panicked" not in run.errors, run.errors
    assert run.code == 0 or run.errors.startswith("error"), run.errors


def test_one_row_without_end_takes_no_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "movies.csv.gz", "wb", compresslevel=1) as sink:
        sink.write(HEADER.encode() + b"1,T,")
        for _ in range(300):
            sink.write(b"a " * 500_000)
    run = trainer("prepare", "--input", "movies.csv.gz", "--output", "movies.parquet", folder=tmp_path)
    print(f"prepare of one row of 300 MB: {run.peak_mib:.0f} MiB, exit code {run.code}")
    assert run.peak_mib < PEAK_MIB and run.code != 0, run.errors


def unpacks_to(file: Path, gigabytes: float) -> None:
    """Writes a zip of one table whose rows are short."""
    row = b"1,T," + b"a" * 996 + b"\n"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as sink, sink.open("movies.csv", "w", force_zip64=True) as table:
        table.write(HEADER.encode())
        for _ in range(int(gigabytes * 1000)):
            table.write(row * 1000)


def named(folder: Path) -> int:
    """Returns the bytes of a folder's files on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


def unnamed(folder: Path, pid: int) -> int:
    """Returns the bytes of files that a process has created in a folder and deleted, but not closed."""
    total = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()).startswith(str(folder)) and not descriptor.resolve().exists():
                total += descriptor.stat().st_blocks * 512
    return total


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, None], ids=["SIGTERM", "SIGKILL", "to its end"])
@pytest.mark.parametrize("source", ["zip", "standard input"])
def test_input_leaves_nothing_in_the_temporary_folder(tmp_path: Path, source: str, end: signal.Signals | None) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    unpacks_to(tmp_path / "movies.zip", 0.5)
    read = {"zip": "movies.zip", "standard input": "-"}[source]
    process = subprocess.Popen(
        [BINARIES / "trainer", "prepare", "--input", read, "--output", "movies.parquet"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.02):
            with contextlib.suppress(OSError):
                most = max(most, named(temporary) + unnamed(temporary, process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        if source == "standard input":
            process.stdin.write(HEADER.encode())
            for number in range(200):
                process.stdin.write(b"%d,T,%s,[]\n" % (number, b"a" * 996) * 1_000)
    if end is not None:
        time.sleep(0.5)
        process.send_signal(end)
    errors = process.communicate(timeout=120)[1].decode(errors="replace")
    over.set()
    watcher.join()
    left = named(temporary)
    print(f"{source}: at most {most / MIB:.0f} MiB in TMPDIR, {left / MIB:.0f} MiB left, exit code {process.returncode}")
    assert left == 0 and most < 256 * MIB and "panicked" not in errors, errors
