"""The bundle minilm-512-fast and the model that was fitted on it, as they are in models/."""

from __future__ import annotations

import json
import subprocess

from conftest import BINARIES, ROOT

WESTERN = "A retired gunslinger defends a frontier town against the hired men of a cattle baron."


def test_the_fast_bundle_and_its_model_belong_together() -> None:
    command = [BINARIES / "classifier-svc", "classify", "--embedded", "--bundle", ".runtime/bundles/minilm-512-fast"]
    command += ["--model", "models/minilm-512-fast.safetensors", "--title", "Dust Creek", "--overview", WESTERN, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [genre["label"] for genre in json.loads(done.stdout)["genres"]][0] == "Western"
