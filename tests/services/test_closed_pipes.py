"""Output whose reader leaves, as `head` does: no panic, no error, and services go on."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from conftest import BINARIES, ROOT, Services, free_port
from movies import write_movies
from waiting import wait_for


def left_by_its_reader(lines: int, *command: str | Path, merge: bool = False) -> tuple[list[bytes], int, bytes]:
    """Runs a command whose reader leaves after some lines. Returns these, the exit code and standard error."""
    process = subprocess.Popen(
        [BINARIES / command[0], *command[1:]],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if "_SVC_" not in k},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
    )
    assert process.stdout
    read = [process.stdout.readline() for _ in range(lines)]
    process.stdout.close()
    error = process.stderr.read() if process.stderr else b""
    return read, process.wait(timeout=60), error


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "movies.csv"
    write_movies(path, 400)
    return path


@pytest.mark.parametrize("output", ["jsonl", "csv"])
def test_classify_ends_quietly_when_head_has_read_enough(services: Services, table: Path, output: str) -> None:
    address = f"http://{services.classifier}"
    command = ("classifier-svc", "classify", "--address", address, "--input", str(table), "--output", output)
    lines, status, error = left_by_its_reader(1, *command)
    assert lines[0].endswith(b"\n")
    assert (status, error) == (0, b"")


def test_classify_ends_without_its_reader_although_its_input_is_open_and_silent(services: Services) -> None:
    """As with `(cat movies.csv; sleep inf) | classifier-svc classify --input - | head -1`."""
    with subprocess.Popen(
        [BINARIES / "classifier-svc", "classify", "--address", f"http://{services.classifier}", "--input", "-"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if "_SVC_" not in k},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"id,title,overview\n1,Reef,A storm is coming.\n")
        process.stdin.flush()
        assert b'"row":1' in process.stdout.readline()
        process.stdout.close()
        # It notices at its next write that the reader has left.
        process.stdin.write(b"2,Reef,A storm is coming.\n3,Reef,A storm is coming.\n")
        process.stdin.flush()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == b""


@pytest.mark.parametrize("options", [[], ["--json"], ["--all"], ["--explain"]], ids=str)
def test_one_movie_without_a_reader_is_no_error(services: Services, options: list[str]) -> None:
    address = f"http://{services.classifier}"
    command = ("classifier-svc", "classify", "--address", address, "--overview", "A storm. A horse.", *options)
    assert left_by_its_reader(0, *command)[1:] == (0, b"")


@pytest.mark.parametrize("service", ["encoder-svc", "classifier-svc"])
@pytest.mark.parametrize("arguments", [["serve", "--print-config"], ["--help"], ["serve", "--help"], ["--version"]], ids=str)
def test_what_a_service_prints_without_a_reader_is_no_error(service: str, arguments: list[str]) -> None:
    assert left_by_its_reader(0, service, *arguments)[1:] == (0, b"")


def test_an_error_without_a_reader_keeps_its_exit_code() -> None:
    command = ("classifier-svc", "classify", "--address", "http://127.0.0.1:1", "--overview", "A storm.")
    assert left_by_its_reader(0, *command, merge=True)[1] == 1


def test_the_trainer_finishes_its_work_when_its_reader_leaves(table: Path, tmp_path: Path) -> None:
    """As with `trainer fit 2>&1 | head -1`: the report is cut off, the files are whole."""
    movies, vectors, model = (tmp_path / name for name in ("m.parquet", "v.parquet", "m.safetensors"))
    steps = [
        (movies, "prepare", "--input", table, "--output", movies),
        (vectors, "encode", "--movies", movies, "--output", vectors, "--embedded"),
        (model, "fit", "--vectors", vectors, "--output", model),
        (model, "evaluate", "--vectors", vectors, "--model", model, "--split", "test"),
    ]
    for output, *arguments in steps:
        for lines, merge in ((0, True), (1, False)):
            _, status, _ = left_by_its_reader(lines, "trainer", *arguments, merge=merge)
            assert status == 0, arguments
            assert output.stat().st_size > 0
    assert left_by_its_reader(0, "trainer", "fit", "--help")[1:] == (0, b"")


def test_a_service_whose_log_lost_its_reader_goes_on() -> None:
    """As when the collector of the logs of a container has crashed."""
    rest = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [BINARIES / "classifier-svc", "serve", "--listen", f"127.0.0.1:{free_port()}", "--rest-listen", rest]
        + ["--encoder", "http://127.0.0.1:1"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if "_SVC_" not in k} | {"RUST_LOG": "debug"},
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr
        process.stderr.readline()
        process.stderr.close()

        def alive() -> bool:
            try:
                with urllib.request.urlopen(f"http://{rest}/livez", timeout=5) as response:
                    return bool(response.status == 200)
            except OSError:
                return False

        wait_for(alive, "the service answers", seconds=30)
        for _ in range(20):
            assert alive()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
