"""Checks the workspace's `rust-version` against its dependencies and the README.

It fails if a dependency on Linux needs a newer version, or if the README names another version. Clippy's lint
`incompatible_msrv` checks the workspace's own code against the same version.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")


def version(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split("."))
    return numbers + (0,) * (3 - len(numbers))


def packages() -> dict[str, dict]:
    found = {}
    for target in TARGETS:
        command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
        metadata = json.loads(subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout)
        found |= {package["id"]: package for package in metadata["packages"]}
    return found


def main() -> int:
    every = packages().values()
    ours = [package for package in every if package["source"] is None]
    theirs = [package for package in every if package["source"] is not None]
    stated = {package["rust_version"] for package in ours}
    if len(stated) != 1 or None in stated:
        print(f"rust-version: expected one for all crates of the workspace, found {sorted(map(str, stated))}")
        return 1
    (msrv,) = stated
    wanting = [package for package in theirs if package["rust_version"]]
    newer = [package for package in wanting if version(package["rust_version"]) > version(msrv)]
    for package in newer:
        name = f"{package['name']} {package['version']}"
        print(f"rust-version: expected dependencies that need Rust {msrv} or older, found {name}, which needs {package['rust_version']}")
    readme = (REPOSITORY / "README.md").read_text()
    found = re.search(r"Rust \((\d+\.\d+) or later\)", readme)
    if found is None or found[1] != msrv:
        print(f"README.md: expected \"Rust ({msrv} or later)\", found {found and found[0]!r}")
        return 1
    if newer:
        return 1
    most = max(wanting, key=lambda package: version(package["rust_version"]))
    print(
        f"rust-version {msrv}: {len(theirs)} dependencies, {len(wanting)} of which declare a version, at most "
        f"{most['rust_version']} ({most['name']})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
