"""The .proto files follow buf's rules of style, and clients of the last release still work with them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from client_tools import node_tool
from conftest import ROOT

PROTO = ROOT / "proto"
# The descriptors of the last release. CONTRIBUTING.md says how a release replaces them.
RELEASED = PROTO / "released.binpb"
CLASSIFIER = "proto/movieclassifier/classifier/v1/classifier_service.proto"
ENCODER = "proto/movieclassifier/encoder/v1/encoder_service.proto"


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [node_tool("buf"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def breaking(proto: Path) -> subprocess.CompletedProcess[str]:
    return buf("breaking", proto, "--against", RELEASED)


def test_style() -> None:
    result = buf("lint", PROTO)
    assert result.returncode == 0, result.stdout + result.stderr


def test_clients_of_the_last_release_still_work() -> None:
    result = breaking(PROTO)
    assert result.returncode == 0, result.stdout + result.stderr


def edited(folder: Path, file: str, old: str, new: str) -> Path:
    """Copies the .proto files and replaces the first match of `old` in one of them."""
    copy = Path(shutil.copytree(PROTO, folder / "proto"))
    text = (copy / file).read_text(encoding="utf-8")
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    (copy / file).write_text(changed, encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param(CLASSIFIER, r"string overview = \d+;", "", id="a removed field"),
        pytest.param(CLASSIFIER, r"string overview = \d+;", "string overview = 99;", id="a renumbered field"),
        pytest.param(CLASSIFIER, r"bool include_scores = ", "string include_scores = ", id="a retyped field"),
        pytest.param(CLASSIFIER, r"string overview = ", "string plot = ", id="a renamed field"),
        pytest.param(CLASSIFIER, r"rpc GetModel\(.*?\);", "", id="a removed method"),
        pytest.param(ENCODER, r"repeated string texts = ", "string texts = ", id="a list that is none any more"),
        pytest.param(ENCODER, r"PRIORITY_BULK = \d+;", "", id="a removed value"),
        pytest.param(ENCODER, r"package movieclassifier\.encoder\.v1;", "package other.v1;", id="another package"),
    ],
)
def test_detects(file: str, old: str, new: str, tmp_path: Path) -> None:
    result = breaking(edited(tmp_path, file, old, new))
    # 100 means that buf found breaking changes, and another status that it failed.
    assert result.returncode == 100, result.stdout + result.stderr


def test_allows_an_added_field(tmp_path: Path) -> None:
    added = edited(tmp_path, CLASSIFIER, r"(message ClassifyRequest \{)", r"\1 int32 added = 99;")
    assert breaking(added).returncode == 0
