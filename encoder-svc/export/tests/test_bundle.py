from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import EXPORT
from safetensors.numpy import save_file

from export import bundle
from export.minilm.build import BuildError, rounded
from export.minilm.weights import WeightsError, load_weights
from export.precision import Precision
from export.tools.tiny_bundle import build_tiny, tiny_shape, vocabulary

FIXTURES = EXPORT.parent / "tests" / "fixtures"


def vector_features() -> str:
    """Returns the CPU features that numpy has special code for on this machine. There is no public list."""
    from numpy._core import _multiarray_umath as core

    return " ".join(name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_builds_give_the_same_bytes(tiny_bundle_folder: Path, tmp_path: Path) -> None:
    build_tiny(tmp_path / "tiny-512", seed=1)
    assert contents(tmp_path / "tiny-512") == contents(tiny_bundle_folder)


@pytest.mark.parametrize(
    ("name", "seed", "precision"),
    [
        ("tiny-512", 1, Precision.FP32),
        ("tiny-other-512", 2, Precision.FP32),
        ("tiny-int8-512", 1, Precision.INT8),
    ],
)
def test_committed_fixtures_match_the_sources(
    name: str, seed: int, precision: Precision, tmp_path: Path
) -> None:
    build_tiny(tmp_path / name, seed, precision)
    assert contents(tmp_path / name) == contents(FIXTURES / name)


@pytest.mark.parametrize(
    ("core", "name", "precision"),
    [("Haswell", "tiny-512", "fp32"), ("Sandybridge", "tiny-512", "fp32"), ("Sandybridge", "tiny-int8-512", "int8")],
)
def test_other_cpu_features_give_the_same_fingerprint(
    core: str, name: str, precision: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "export.tools.tiny_bundle", "--output", str(tmp_path / name), "--seed", "1"]
    # Includes numpy's vector code, which quantising uses.
    environment = {
        "OPENBLAS_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": core,
        "NPY_DISABLE_CPU_FEATURES": vector_features(),
    }
    subprocess.run(
        [*command, "--precision", precision], check=True, cwd=EXPORT.parent, env=environment, capture_output=True
    )
    assert bundle.fingerprint(tmp_path / name) == bundle.fingerprint(FIXTURES / name)


def test_reference_vectors_have_512_numbers_and_length_one(tiny_bundle_folder: Path) -> None:
    texts = json.loads((tiny_bundle_folder / bundle.REFERENCE).read_text(encoding="utf-8"))["texts"]
    vectors = np.array([entry["vector"] for entry in texts])
    assert vectors.shape == (len(texts), 512)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert {entry["truncated"] for entry in texts} == {True, False}


def test_verify_returns_the_fingerprint_of_an_intact_bundle(tiny_bundle_folder: Path) -> None:
    assert bundle.verify(tiny_bundle_folder) == bundle.fingerprint(tiny_bundle_folder)


@pytest.mark.parametrize("name", [bundle.MODEL, bundle.TOKENIZER, bundle.REFERENCE])
def test_detects_a_changed_file(name: str, tiny_bundle_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_folder, tmp_path / "tiny-512")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(bundle.BundleError, match=f"{name}: expected sha256"):
        bundle.verify(folder)


def test_detects_a_missing_file(tiny_bundle_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_folder, tmp_path / "tiny-512")
    (folder / bundle.MODEL).unlink()
    with pytest.raises(bundle.BundleError, match="model.onnx: expected a file in bundle tiny-512, found none"):
        bundle.verify(folder)


def test_rejects_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(bundle.BundleError, match="expected encoder.json"):
        bundle.verify(tmp_path)


def test_rewriting_replaces_the_bundle_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    build_tiny(tmp_path / "tiny-512", seed=1)
    first = bundle.fingerprint(tmp_path / "tiny-512")
    build_tiny(tmp_path / "tiny-512", seed=2)
    assert bundle.verify(tmp_path / "tiny-512") != first
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-512"]


def test_rejects_other_weights(tmp_path: Path) -> None:
    save_file({"embeddings": np.zeros(3, dtype=np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="model.safetensors: expected sha256 53aa51172d14"):
        load_weights(tmp_path / "model.safetensors", tiny_shape(vocabulary()))


def test_rejects_a_value_on_a_rounding_boundary() -> None:
    assert rounded(np.array([0.12345678, -1e-9])) == [0.1234568, 0.0]
    with pytest.raises(BuildError, match="rounding boundary"):
        rounded(np.array([0.12345675]))
