"""Everything that is downloaded and run is pinned: Python packages by hash, images by digest."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
from test_documentation import REPOSITORY, listed

# Base images that follow security updates unless a build argument names a digest. deploy/docker/Dockerfile says so.
MOVING = {"debian:bookworm-slim", "rust:1-bookworm"}
# Variables that name one of those, or an image that this repository builds.
VARIABLES = {"DEBIAN_IMAGE", "RUST_IMAGE", "$PREFIX/debian:bookworm-slim"}
OURS = re.compile(r"(\$\{IMAGE_PREFIX:-movieclassifier\}|movieclassifier)/[a-z-]+(:\S+)?")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}\b")
PIP = re.compile(r"\bpip3?[\"',\s]+install\b")
# How a user installs the package of this repository. A library cannot pin the versions of its users' environments; that
# of its own tests is pinned.
OWN_PACKAGE = re.compile(r"\bpip install '?(\./clients/python|movieclassifier)\b")


@cache
def sources() -> dict[str, str]:
    """Texts of the repository that may install something, by their paths."""
    kinds = (".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".txt", ".in", "Makefile", "Dockerfile", "/run", "/nightly")
    found = listed(*kinds)
    return {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in found}


def lines(name: str) -> list[str]:
    """Lines of a file, with continued ones joined."""
    return sources()[name].replace("\\\n", " ").splitlines()


def unpinned_installs(name: str) -> list[str]:
    text = sources()[name]
    # In Python the arguments of a command are on several lines.
    if name.endswith(".py") and "--require-hashes" in text:
        return []
    found = [line.strip() for line in lines(name) if PIP.search(line) and not OWN_PACKAGE.search(line)]
    return [line for line in found if "--require-hashes" not in line]


def test_every_pip_install_requires_hashes() -> None:
    found = {name: unpinned_installs(name) for name in sources() if name != f"tests/{Path(__file__).name}"}
    assert {name: installs for name, installs in found.items() if installs} == {}


@pytest.mark.parametrize("name", [name for name in sources() if re.search(r"requirements[a-z-]*\.txt$", name)])
def test_every_listed_package_has_a_version_and_a_hash(name: str) -> None:
    packages = [line for line in lines(name) if line and not line.startswith(("#", "--"))]
    assert packages
    assert [line for line in packages if not re.fullmatch(r"[a-z0-9-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+", line)] == []


@pytest.mark.parametrize("name", [name for name in sources() if re.search(r"requirements[a-z-]*\.in$", name)])
def test_every_list_of_packages_is_closed(name: str) -> None:
    """`pin_requirements.py` was run after the last edit."""
    pins = {line.split("#")[0].strip() for line in lines(name)} - {""}
    hashed = {line.split()[0] for line in lines(name.removesuffix(".in") + ".txt") if re.match(r"[a-z0-9-]+==", line)}
    assert pins == hashed


def test_every_npm_package_has_a_version_and_a_hash() -> None:
    for manifest in listed("package.json"):
        folder = (REPOSITORY / manifest).parent
        wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["devDependencies"]
        packages = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
        assert packages.pop("")["devDependencies"] == wanted
        assert [version for version in wanted.values() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
        assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []


def test_npm_installs_only_locked_packages_and_runs_no_scripts() -> None:
    found = [line.strip() for name in sources() for line in lines(name) if re.match(r"\s*@?npm (ci|i|install)\b", line)]
    assert found
    assert [line for line in found if "npm ci " not in line or "--ignore-scripts" not in line] == []


def images(name: str) -> list[str]:
    """Images that a file builds on or runs."""
    text = sources()[name]
    if "Dockerfile" in name or name.endswith(".sh"):
        stages = set(re.findall(r"(?mi)^FROM \S+ AS (\S+)", text))
        found = re.findall(r"(?m)^FROM (\S+)", text) + re.findall(r"(?m)^ARG \w+_IMAGE=(\S+)", text)
        return [image for image in found if image not in stages | {"scratch"}]
    if name.endswith((".yaml", ".yml")):
        plain = re.findall(r"(?m)^\s*(?:- )?image: ([^{\s#]\S*|\$\{\S+)\s*(?:#.*)?$", text)
        references = re.findall(r"reference: \"?([^\s\",}]+)", text)
        arguments = re.findall(r"(?m)^\s*\w+_IMAGE: (\S+)", text)
        return plain + references + arguments
    return []


def is_pinned(image: str) -> bool:
    default = re.fullmatch(r"\$\{?(\w+)(?::-([^}]*))?\}?", image)
    if default:
        image = default[2] or default[1]
    return bool(DIGEST.search(image) or OURS.fullmatch(image) or image in MOVING | VARIABLES)


def test_every_image_has_a_digest_or_is_ours() -> None:
    found = {name: images(name) for name in sources()}
    assert sum(map(len, found.values())) > 10
    loose = {name: [image for image in of_file if not is_pinned(image)] for name, of_file in found.items()}
    assert {name: of_file for name, of_file in loose.items() if of_file} == {}


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("prom/prometheus:v3.5.0", False),
        ("prom/prometheus:v3.5.0@sha256:" + "0" * 64, True),
        ("${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}", False),
        ("${IMAGE_PREFIX:-movieclassifier}/encoder:${TAG:-latest}", True),
        ("${RUST_IMAGE:-rust:1-bookworm}", True),
        ("python:3.12", False),
    ],
)
def test_rule_for_images(image: str, pinned: bool) -> None:
    assert is_pinned(image) is pinned


def test_installs_of_cargo_are_locked() -> None:
    found = [(name, line.strip()) for name in sources() for line in lines(name) if re.search(r"\bcargo install\b", line)]
    loose = [(name, line) for name, line in found if "--locked" not in line and name != f"tests/{Path(__file__).name}"]
    assert loose == []
