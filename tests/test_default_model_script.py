"""The scripts of `make default-model` and `make adapter`, with programs that only record how they are called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_documentation import REPOSITORY

PROGRAM = """#!{python}
import json, os, pathlib, sys
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == os.environ.get("FAILING"):
    sys.exit(1)
for option, value in zip(sys.argv, sys.argv[1:]):
    if option in ("--output", "--report"):
        pathlib.Path(value).touch()
print("output")
"""


class Checkout:
    """A checkout with nothing but the scripts and an empty `models/`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.work = folder / "work"
        self.program = folder / "bin" / "trainer"
        self._calls = folder / "calls.jsonl"
        scripts = self.root / "tools" / "scripts"
        for path in (scripts, self.root / "models", self.program.parent):
            path.mkdir(parents=True)
        for name in ("default_model.sh", "adapter.sh", "movie_groups.py"):
            shutil.copy(REPOSITORY / "tools" / "scripts" / name, scripts)
        self.program.write_text(PROGRAM.format(python=sys.executable, calls=str(self._calls)))
        self.program.chmod(0o755)

    def table(self, name: str, text: str = "id,overview\n1,a pilot\n") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, script: str, *arguments: object, failing: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a script. The programs fail at the command `failing`."""
        return subprocess.run(
            [self.root / "tools" / "scripts" / script, *map(str, arguments)],
            env={**os.environ, "FAILING": failing},
            capture_output=True,
            text=True,
            check=False,
        )

    def fit(self, *sources: str, failing: str = "") -> subprocess.CompletedProcess[str]:
        return self.run("default_model.sh", self.program.parent, self.work, *sources, failing=failing)

    def calls(self, command: str = "") -> list[list[str]]:
        """Arguments of the calls so far, or of those of one command."""
        if not self._calls.exists():
            return []
        calls = map(json.loads, self._calls.read_text().splitlines())
        return [call for call in calls if command in ("", call[0])]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def values(call: list[str], option: str) -> list[str]:
    return [value for name, value in zip(call, call[1:], strict=False) if name == option]


@pytest.mark.parametrize(
    "files",
    [
        ("../a/x.csv", "../b/y.csv"),
        ("../v1.2/a.csv", "../v1.2/b.csv"),
        ("../a/x.csv", "../b/x.csv"),
        ("../a/x,1.csv", "../a/x,2.csv"),
    ],
)
def test_every_source_has_its_own_table_and_vectors(checkout: Checkout, files: tuple[str, str]) -> None:
    for file in files:
        checkout.table(file)
    first, second = files
    result = checkout.fit(first, f"{second},unknown=Foreign+TV Movie,train-only")
    assert result.returncode == 0, result.stderr
    prepared = checkout.calls("prepare")
    assert [values(call, "--input") for call in prepared] == [[first], [second]]
    tables = [values(call, "--output")[0] for call in prepared]
    encoded = {values(call, "--output")[0]: values(call, "--movies")[0] for call in checkout.calls("encode")}
    reference, default = checkout.calls("fit")
    one, two = values(default, "--vectors")
    two, settings = two.removesuffix(",unknown=Foreign+TV Movie,train-only"), two
    assert two != settings and one != two and [encoded[one], encoded[two]] == tables
    # The reference preset is fitted on the first source.
    assert encoded[values(reference, "--vectors")[0]] == tables[0]
    assert values(default, "--output") == ["models/default.safetensors"]


def test_a_second_run_prepares_the_tables_again(checkout: Checkout) -> None:
    checkout.table("x.csv")
    assert [checkout.fit("x.csv").returncode for _ in range(2)] == [0, 0]
    first, second = checkout.calls("prepare")
    assert first == second


@pytest.mark.parametrize("failing", ["prepare", "encode"])
def test_nothing_is_fitted_after_a_failure(checkout: Checkout, failing: str) -> None:
    checkout.table("x.csv")
    assert checkout.fit("x.csv").returncode == 0
    before = len(checkout.calls("fit"))
    result = checkout.fit("x.csv", failing=failing)
    assert result.returncode == 1 and len(checkout.calls("fit")) == before
    if failing == "encode":
        vectors = values(checkout.calls("encode")[-1], "--output")[0]
        assert f"rm -rf '{vectors}'" in result.stderr


def test_a_table_without_groups_is_rejected_before_any_work(checkout: Checkout) -> None:
    checkout.table("x.csv")
    checkout.table("y.tsv", "id\toverview\n1\ta pilot\n")
    result = checkout.fit("x.csv", "y.tsv")
    assert result.returncode == 1 and "y.tsv: expected a CSV file with a column id" in result.stderr
    assert checkout.calls() == []


def test_a_missing_table_is_rejected_before_any_work(checkout: Checkout) -> None:
    result = checkout.fit("x,1.csv,train-only")
    assert result.returncode == 1 and "expected a table of movies at x,1.csv, found nothing" in result.stderr
    assert checkout.calls() == []


def test_the_adapter_is_trained_on_the_sources_of_the_default_model(checkout: Checkout) -> None:
    sources = ("x.csv", "y.csv,unknown=Foreign,train-only", "z.csv,train-only,unknown=Foreign")
    result = checkout.run("adapter.sh", checkout.program, checkout.program, checkout.work, *sources)
    assert result.returncode == 0, result.stderr
    start, train, export = [call for call in checkout.calls("-m") if call[1] == "export.adapt"]
    assert values(start, "--data") == ["x.csv"]
    assert (
        values(train, "--data")
        == values(export, "--data")
        == ["x.csv", "y.csv,unknown=Foreign", "z.csv,unknown=Foreign"]
    )
