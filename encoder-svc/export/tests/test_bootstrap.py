from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import EXPORT

from export import bootstrap, bundle

NAME = "minilm-512"


@pytest.fixture
def runtime(tiny_bundle_folder: Path, tmp_path: Path) -> bootstrap.Runtime:
    """A runtime folder with a tiny bundle made from the inputs "before"."""
    runtime = bootstrap.Runtime(tmp_path / "runtime")
    shutil.copytree(tiny_bundle_folder, runtime.bundle(NAME))
    runtime.set_stamp(NAME, f"before {bundle.verify(runtime.bundle(NAME))}")
    return runtime


def test_bundle_with_the_same_inputs_is_current(runtime: bootstrap.Runtime) -> None:
    assert bootstrap.bundle_is_current(runtime, NAME, "before")


def test_bundle_with_other_inputs_is_not_current(runtime: bootstrap.Runtime) -> None:
    assert not bootstrap.bundle_is_current(runtime, NAME, "after")


def test_stamp_of_one_bundle_does_not_apply_to_another(runtime: bootstrap.Runtime) -> None:
    assert not bootstrap.bundle_is_current(runtime, "minilm-512-int8", "before")


def test_damaged_bundle_is_not_current(runtime: bootstrap.Runtime) -> None:
    with (runtime.bundle(NAME) / bundle.MODEL).open("ab") as file:
        file.write(b"x")
    assert not bootstrap.bundle_is_current(runtime, NAME, "before")


def test_adapter_is_an_input(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.safetensors"
    adapter.write_bytes(b"one")
    first = bootstrap.export_inputs(adapter)
    adapter.write_bytes(b"two")
    assert len({first, bootstrap.export_inputs(adapter), bootstrap.export_inputs(None)}) == 3


def test_every_imported_source_is_an_input() -> None:
    script = (
        "import sys, export.minilm.__main__; "
        "print(*(getattr(m, '__file__', None) for m in sys.modules.values()), sep='\\n')"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=EXPORT.parent, check=True, capture_output=True, text=True
    )
    paths = [Path(line) for line in result.stdout.splitlines()]
    imported = {str(path.relative_to(EXPORT)) for path in paths if path.is_relative_to(EXPORT)}
    assert imported == set(bootstrap.EXPORT_SOURCES)


def test_rejects_a_file_that_is_not_a_library(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"text")
    with pytest.raises(bootstrap.SetupError, match="expected an ELF library, found a file that starts with b'text'"):
        bootstrap.check_library(tmp_path / "lib.so", "1.31.1")


@pytest.mark.skipif(
    Path(sys.prefix) != bootstrap.REPOSITORY / ".runtime" / "venv", reason="not in an environment created by bootstrap.py"
)
def test_second_run_does_nothing_and_reports_it_in_one_line() -> None:
    system_python = os.path.realpath(sys.executable)
    command = [system_python, str(EXPORT / "bootstrap.py")]
    subprocess.run(command, check=True, capture_output=True)
    started = time.monotonic()
    second = subprocess.run(command, check=True, capture_output=True, text=True)
    assert time.monotonic() - started < 2
    assert second.stdout.count("\n") == 1
    assert "up to date" in second.stdout
