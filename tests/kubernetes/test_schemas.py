"""Every overlay renders to manifests that are valid by Kubernetes' schemas. Run by `make test-deploy`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
from manifests import ALL, rendered_text  # noqa: E402

VALIDATE = Path(sys.executable).parent / "kubernetes-validate"


def validate(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "rendered.yaml"
    file.write_text(text, encoding="utf-8")
    command = [VALIDATE, "-k", "1.36", "--strict", file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ALL)
def test_manifests_match_the_schemas(name: str, tmp_path: Path) -> None:
    result = validate(rendered_text(name), tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_detects_a_misspelt_field(tmp_path: Path) -> None:
    text = rendered_text("overlays/production").replace("readinessProbe:", "readynessProbe:", 1)
    assert validate(text, tmp_path).returncode != 0
