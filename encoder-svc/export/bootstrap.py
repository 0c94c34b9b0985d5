"""Installs what the encoder service needs: a Python environment, ONNX Runtime's library and encoder bundles.

    .runtime/venv/                    the pinned packages, checked by hash
    .runtime/lib/libonnxruntime.so    copied from the onnxruntime wheel
    .runtime/bundles/minilm-512/      the default encoder bundle, or the bundles named with --bundle

A step whose inputs have not changed is skipped, so a second run takes less than a second. This file uses only the
standard library, because it runs before anything is installed. It needs pip 22.3 or newer (for `pip --python`) and a
package registry, but not the ensurepip module.

examples:
  python3 encoder-svc/export/bootstrap.py
  python3 encoder-svc/export/bootstrap.py --with-requirements encoder-svc/export/requirements-test.txt
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

EXPORT = Path(__file__).resolve().parent
# This file is run by its path, so the package is not yet on Python's path.
sys.path.insert(0, str(EXPORT.parent))

from export import bundle  # noqa: E402
from export.precision import BUNDLES, DEFAULT_BUNDLE  # noqa: E402

REPOSITORY = EXPORT.parent.parent
REQUIREMENTS = EXPORT / "requirements.txt"
# The trained adapters. Each becomes part of its bundles if the file exists.
ADAPTERS = REPOSITORY / "models"
# The sources of a bundle; tests/test_bootstrap.py compares this list with what `export.minilm` imports.
EXPORT_SOURCES = (
    "__init__.py",
    "bundle.py",
    "minilm/__init__.py",
    "minilm/__main__.py",
    "minilm/adapter.py",
    "minilm/build.py",
    "minilm/forward.py",
    "minilm/graph.py",
    "minilm/graph_int8.py",
    "minilm/lift.py",
    "minilm/quantise.py",
    "minilm/weights.py",
    "minilm/wordpiece.py",
    "precision.py",
    "reference_texts.py",
)
OLDEST_PYTHON = (3, 11)
OLDEST_PIP = (22, 3)


class SetupError(Exception):
    """A step failed on this machine. The message says what to change."""


class Runtime:
    """The layout of the runtime folder, with a stamp for each item that records its inputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.python = self.venv / "bin" / "python"
        self.library = folder / "lib" / "libonnxruntime.so"

    def bundle(self, name: str) -> Path:
        """The folder of the bundle with the id `name`."""
        return self.folder / "bundles" / name

    def stamp(self, name: str) -> str:
        """Returns the recorded inputs of the item `name`, or an empty string if there is no stamp."""
        path = self.folder / "stamps" / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def set_stamp(self, name: str, text: str) -> None:
        path = self.folder / "stamps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{name}")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the runtime folder's lock. A second run waits for the first, then finds nothing left to do."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run of bootstrap.py to finish", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def step(words: str) -> Iterator[None]:
    """Prints `words`, runs the block, and prints how long it took."""
    print(f"{words} ...", flush=True)
    started = time.monotonic()
    yield
    print(f"    {time.monotonic() - started:.1f} s", flush=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def interpreter() -> str:
    """Describes the Python version and the machine that an environment is built for."""
    return f"python {sys.version_info.major}.{sys.version_info.minor} {platform.machine()}"


def ensure_venv(runtime: Runtime) -> bool:
    """Creates the environment if it is missing or built for another Python. Returns whether it did."""
    if runtime.python.exists() and runtime.stamp("venv") == interpreter():
        return False
    with step("creating the python environment"):
        for leftover in (runtime.venv, runtime.folder / "stamps"):
            shutil.rmtree(leftover, ignore_errors=True)
        # Without pip, because Debian ships ensurepip in a separate package. The system's pip installs into the folder.
        run([sys.executable, "-m", "venv", "--without-pip", str(runtime.venv)], "create the environment")
        runtime.set_stamp("venv", interpreter())
    return True


def ensure_requirements(runtime: Runtime, requirements: Path) -> bool:
    """Installs a requirements file with hashes unless its stamp is current. Returns whether it did."""
    if not requirements.is_file():
        raise SetupError(f"expected a requirements file at {requirements}, found none")
    digest = sha256(requirements)
    # Files with the same name in different folders need different stamps.
    path_digest = hashlib.sha256(str(requirements.resolve()).encode()).hexdigest()[:8]
    stamp = f"{requirements.name}-{path_digest}"
    if runtime.stamp(stamp) == digest:
        return False
    check_pip()
    with step(f"installing {requirements.name}"):
        pip = [sys.executable, "-m", "pip", "--python", str(runtime.python), "install"]
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        run(pip + options + ["--requirement", str(requirements)], f"install {requirements.name}")
        runtime.set_stamp(stamp, digest)
    return True


def check_pip() -> None:
    """Raises SetupError unless this Python has a pip that can install into another environment."""
    result = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"pip (\d+)\.(\d+)", result.stdout)
    if result.returncode != 0 or found is None:
        raise SetupError(f"expected pip in {sys.executable}, found none; install python3-pip")
    if (int(found[1]), int(found[2])) < OLDEST_PIP:
        raise SetupError(f"expected pip {OLDEST_PIP[0]}.{OLDEST_PIP[1]} or newer, found {found[1]}.{found[2]}")


def ensure_library(runtime: Runtime) -> bool:
    """Copies libonnxruntime.so from the installed wheel unless the copy is current. Returns whether it did."""
    version = pinned_version("onnxruntime")
    if runtime.library.is_file() and runtime.stamp("library") == f"{version} {sha256(runtime.library)}":
        return False
    with step(f"copying libonnxruntime.so {version}"):
        found = list(runtime.venv.glob(f"lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.{version}"))
        if len(found) != 1:
            raise SetupError(f"expected one libonnxruntime.so.{version} in the environment, found {len(found)}")
        runtime.library.parent.mkdir(parents=True, exist_ok=True)
        temporary = runtime.library.with_name(".libonnxruntime.so")
        shutil.copyfile(found[0], temporary)
        check_library(temporary, version)
        os.replace(temporary, runtime.library)
        runtime.set_stamp("library", f"{version} {sha256(runtime.library)}")
    return True


def pinned_version(package: str) -> str:
    """Returns the version of `package` pinned in requirements.txt."""
    found = re.search(rf"^{package}==(\S+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SetupError(f"{REQUIREMENTS.name}: expected a line {package}==VERSION, found none")
    return found[1]


def check_library(path: Path, version: str) -> None:
    """Raises SetupError unless `path` is an ELF library that loads and reports ONNX Runtime `version`."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"\x7fELF":
        raise SetupError(f"{path.name}: expected an ELF library, found a file that starts with {magic!r}")

    # struct OrtApiBase of onnxruntime_c_api.h: GetApi, then GetVersionString.
    class ApiBase(ctypes.Structure):
        _fields_ = [("get_api", ctypes.c_void_p), ("get_version", ctypes.CFUNCTYPE(ctypes.c_char_p))]

    try:
        library = ctypes.CDLL(str(path))
        library.OrtGetApiBase.restype = ctypes.POINTER(ApiBase)
        found = library.OrtGetApiBase().contents.get_version().decode()
    except (OSError, AttributeError) as error:
        raise SetupError(f"{path.name}: expected a library that loads on this machine, found: {error}") from error
    if found != version:
        raise SetupError(f"{path.name}: expected onnx runtime {version}, found {found}")


def export_inputs(adapter: Path | None) -> str:
    """Returns a digest of everything a bundle is made from: sources, pinned packages and the adapter."""
    digest = hashlib.sha256()
    inputs = {name: EXPORT / name for name in EXPORT_SOURCES} | {REQUIREMENTS.name: REQUIREMENTS}
    if adapter:
        inputs["adapter"] = adapter
    for name, path in inputs.items():
        digest.update(f"{name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def ensure_bundle(runtime: Runtime, name: str, adapter: Path | None) -> bool:
    """Exports the bundle `name` unless it is intact and made from the same inputs. Returns whether it did."""
    inputs = export_inputs(adapter)
    if bundle_is_current(runtime, name, inputs):
        return False
    folder = runtime.bundle(name)
    with step(f"exporting the bundle {name}"):
        for leftover in folder.parent.glob(f".{name}.*"):
            shutil.rmtree(leftover)
        command = [str(runtime.python), "-m", "export.minilm", "--output", str(folder)]
        command += ["--id", name, "--precision", BUNDLES[name].precision] + (["--adapter", str(adapter)] if adapter else [])
        run(command, f"export {name}", {"PYTHONPATH": str(EXPORT.parent)})
        runtime.set_stamp(name, f"{inputs} {bundle.verify(folder)}")
    return True


def trained_adapter(name: str) -> Path | None:
    """Returns the adapter of the bundle `name` in models/, if there is one."""
    path = ADAPTERS / BUNDLES[name].adapter
    return path if path.is_file() else None


def bundle_is_current(runtime: Runtime, name: str, inputs: str) -> bool:
    """Returns whether the bundle's files are intact and its stamp names `inputs`. Hashes every file."""
    try:
        return runtime.stamp(name) == f"{inputs} {bundle.verify(runtime.bundle(name))}"
    except bundle.BundleError:
        return False


def run(command: list[str], purpose: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
    """Runs a command and shows its output. Raises SetupError if it fails."""
    result = subprocess.run(command, env={**os.environ, **environment}, check=False)
    if result.returncode != 0:
        raise SetupError(f"could not {purpose}: {Path(command[0]).name} exited with status {result.returncode}")


def bootstrap(runtime: Runtime, bundles: list[str], requirements: list[Path], adapter: Path | None) -> None:
    """Brings everything up to date and reports it. Raises SetupError."""
    started = time.monotonic()
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(f"expected python 3.11 or newer, found {platform.python_version()}")
    if adapter is not None and not adapter.is_file():
        raise SetupError(f"expected an adapter at {adapter}, found none")
    with exclusive(runtime.folder):
        done = [ensure_venv(runtime), ensure_requirements(runtime, REQUIREMENTS)]
        done += [ensure_library(runtime)]
        done += [ensure_bundle(runtime, name, adapter or trained_adapter(name)) for name in bundles]
        done += [ensure_requirements(runtime, extra) for extra in requirements]
        made = ", ".join(f"{name} {bundle.fingerprint(runtime.bundle(name))}" for name in bundles)
    state = "ready" if any(done) else "up to date"
    print(f"{runtime.folder.name}: {state} in {time.monotonic() - started:.1f} s, {made}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=REPOSITORY / ".runtime",
        metavar="DIR",
        help="default: the repository's .runtime",
    )
    parser.add_argument(
        "--bundle",
        action="append",
        choices=list(BUNDLES),
        help=f"make this bundle (repeatable); default: {DEFAULT_BUNDLE} alone",
    )
    parser.add_argument(
        "--with-requirements",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also install this requirements file with hashes (repeatable)",
    )
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="FILE",
        help="trained adapter for the bundles; default: each bundle's own in models/, if it exists",
    )
    arguments = parser.parse_args()
    try:
        runtime = Runtime(arguments.runtime_dir.resolve())
        bundles = list(dict.fromkeys(arguments.bundle or [DEFAULT_BUNDLE]))
        bootstrap(runtime, bundles, arguments.with_requirements, arguments.adapter)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
