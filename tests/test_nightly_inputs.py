"""Inputs of the nightly suites that can become outdated with any change: checked here, in seconds."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def mutants() -> ModuleType:
    """Imports the list of `make simulate-mutants`."""
    specification = importlib.util.spec_from_file_location("mutants", ROOT / "tools/simulation/mutants/run.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # @dataclass looks up its module in sys.modules.
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_every_mutant_matches_the_sources_once() -> None:
    outdated = [m.name for m in mutants().MUTANTS if (ROOT / m.file).read_text(encoding="utf-8").count(m.old) != 1]
    assert outdated == []


def test_docker_build_context_contains_every_crate() -> None:
    members = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["members"]
    folders = {member.split("/")[0] for member in members}
    included = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()}
    assert folders <= included
