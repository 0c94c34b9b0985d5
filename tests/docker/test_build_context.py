"""The build context of the images contains every crate. `make test-docker`, which needs it, runs only at night."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_build_context_contains_every_crate() -> None:
    members = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["members"]
    folders = {member.split("/")[0] for member in members}
    included = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()}
    assert folders <= included
