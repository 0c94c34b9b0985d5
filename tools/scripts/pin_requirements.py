"""Adds hashes to a list of pinned packages: `NAME.in` -> `NAME.txt`.

It downloads the wheel of every line for each supported interpreter and processor (CPython 3.11 to 3.13 on x86_64 and
aarch64 Linux with glibc 2.28 or newer) and writes its sha256. It accepts wheels only, because installing a source archive
runs a build script. `--source-archive` names packages that have no wheels; install those after the other packages, with
`--no-build-isolation`, so that only pinned packages run their build scripts. Format: pip's hash-checking mode
(https://pip.pypa.io/en/stable/topics/secure-installs/).

    python3 tools/scripts/pin_requirements.py requirements.in
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
# pip matches platform names exactly, so this lists each glibc version that a wheel may name.
MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")


def pinned_lines(source: Path) -> list[str]:
    """Returns the `name==version` lines of `source`. Raises ValueError if a line is not pinned."""
    pins = []
    for line in source.read_text(encoding="utf-8").splitlines():
        pin = line.split("#")[0].strip()
        if not pin:
            continue
        if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin):
            raise ValueError(f"{source.name}: expected name==version, found {pin!r}")
        pins.append(pin)
    return sorted(pins)


def download(pins: list[str], python_version: str, machine: str, newer: list[str], folder: Path) -> None:
    """Downloads one wheel per pin to `folder`. Raises CalledProcessError if a wheel does not exist."""
    platforms = [argument for name in (*newer, *MANYLINUX) for argument in ("--platform", f"{name}_{machine}")]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        + ["--implementation", "cp", "--python-version", python_version, "--dest", str(folder)]
        + platforms
        + pins,
        check=True,
    )


def download_archives(pins: list[str], folder: Path) -> None:
    """Downloads the source archive of each pin to `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += [argument for pin in pins for argument in ("--no-binary", pin.split("==")[0])]
    subprocess.run([*command, "--dest", str(folder), *pins], check=True)


def hashes_by_project(folder: Path) -> dict[str, set[str]]:
    """Returns the sha256 of each file in `folder` by project name, normalised as in PEP 503."""
    hashes: dict[str, set[str]] = {}
    for path in folder.iterdir():
        project = re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower()
        with path.open("rb") as file:
            hashes.setdefault(project, set()).add(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the list of pinned packages, for example requirements.in")
    parser.add_argument("--machine", action="append", choices=MACHINES, help="only this processor (repeatable); default: all")
    parser.add_argument("--newer", action="append", default=[], help="also such wheels, as manylinux_2_38 (repeatable)")
    parser.add_argument("--source-archive", action="append", default=[], help="a package without wheels (repeatable)")
    arguments = parser.parse_args()
    source: Path = arguments.source
    pins = pinned_lines(source)
    archives = [pin for pin in pins if pin.split("==")[0] in arguments.source_archive]
    wheels = [pin for pin in pins if pin not in archives]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for python_version in PYTHON_VERSIONS:
            for machine in arguments.machine or MACHINES:
                download(wheels, python_version, machine, arguments.newer, folder)
        if archives:
            download_archives(archives, folder)
        hashes = hashes_by_project(folder)
    lines = [
        f"# Written by tools/scripts/pin_requirements.py from {source.name}; edit that file instead.",
        "# Install with: pip install --no-deps --require-hashes -r FILE",
        "--only-binary :all:",
        *(f"--no-binary {pin.split('==')[0]}" for pin in archives),
    ]
    for pin in pins:
        digests = sorted(hashes[pin.split("==")[0]])
        lines.append(" \\\n    ".join([pin] + [f"--hash=sha256:{digest}" for digest in digests]))
    source.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
