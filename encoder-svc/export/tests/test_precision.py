from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export import bundle, precision
from export.minilm.build import BuildReport, distance
from export.precision import BOUNDS, BUNDLES, DEFAULT_BUNDLE, DEFAULT_PRECISION, FAST_BUNDLE, Precision, bundle_id


def test_default_precision_has_the_plain_name() -> None:
    assert DEFAULT_BUNDLE == "minilm-512"
    assert BUNDLES[DEFAULT_BUNDLE].precision is DEFAULT_PRECISION
    assert sorted({recipe.precision for recipe in BUNDLES.values()}) == sorted(Precision)


def test_the_fast_bundle_alone_has_an_adapter_of_its_own() -> None:
    assert [name for name, recipe in BUNDLES.items() if recipe.adapter != BUNDLES[DEFAULT_BUNDLE].adapter] == [FAST_BUNDLE]


@pytest.mark.parametrize(
    ("default", "ids"),
    [
        (Precision.FP32, {Precision.FP32: "minilm-512", Precision.INT8: "minilm-512-int8"}),
        (Precision.INT8, {Precision.FP32: "minilm-512-fp32", Precision.INT8: "minilm-512"}),
    ],
)
def test_plain_name_follows_the_default_precision(
    default: Precision, ids: dict[Precision, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "DEFAULT_PRECISION", default)
    assert {each: bundle_id(each) for each in Precision} == ids


def test_distance_distinguishes_difference_and_angle() -> None:
    expected = np.linspace(-1, 1, 512)
    longer = (expected * 1.5).astype(np.float32)
    assert distance(BOUNDS[Precision.FP32], longer, expected) == pytest.approx(0.5)
    assert distance(BOUNDS[Precision.INT8], longer, expected) == pytest.approx(0, abs=1e-9)
    assert distance(BOUNDS[Precision.INT8], -longer, expected) == pytest.approx(2)


def test_report_uses_the_terms_of_the_bound() -> None:
    assert "difference 1.0e-07" in str(BuildReport("f", BOUNDS[Precision.FP32], 1e-7))
    assert "cosine 0.9970" in str(BuildReport("f", BOUNDS[Precision.INT8], 0.003))


def test_manifest_names_one_bound(tiny_bundle_folder: Path, tiny_int8_bundle_folder: Path) -> None:
    references = [
        json.loads((folder / bundle.MANIFEST).read_text(encoding="utf-8"))["reference"]
        for folder in (tiny_bundle_folder, tiny_int8_bundle_folder)
    ]
    assert references == [
        {"file": bundle.REFERENCE, "tolerance": 1e-5},
        {"file": bundle.REFERENCE, "min_cosine": BOUNDS[Precision.INT8].limit},
    ]
