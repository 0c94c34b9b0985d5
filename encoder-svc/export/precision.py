"""The MiniLM bundles: the precision and the adapter of each, and how close its graph stays to the reference vectors.

This module uses only the standard library, because bootstrap.py imports it before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """The number format of the graph's matrix products. FP32 is for CPUs and GPUs; INT8 is for CPUs, one text per run."""

    FP32 = "fp32"
    INT8 = "int8"


# The bundle with this precision is `minilm-512`; the other one is `minilm-512-PRECISION`.
DEFAULT_PRECISION = Precision.INT8
FAMILY = "minilm-512"


@dataclass(frozen=True)
class Bound:
    """The accepted distance between a graph's vector and the reference vector. `key` is its name in the manifest.

    `tolerance` limits the difference of each number; `min_cosine` is the smallest cosine between the two vectors.
    """

    key: str
    limit: float


# Float32 results differ between processors, and a single different rounding moves an activation by a whole int8 step.
# No tolerance on single numbers would hold, so the bound of int8 is on the angle. tools/compare_precision.py measures the
# cosine to the unquantised vectors, and that between vectors of different texts.
BOUNDS = {Precision.FP32: Bound("tolerance", 1e-5), Precision.INT8: Bound("min_cosine", 0.96)}


def bundle_id(precision: Precision) -> str:
    """Returns the id of the MiniLM bundle with `precision`, which is also the name of its folder."""
    return FAMILY if precision is DEFAULT_PRECISION else f"{FAMILY}-{precision}"


@dataclass(frozen=True)
class Recipe:
    """What a bundle is made from besides the published weights. `adapter` is the name of a file in models/."""

    precision: Precision
    adapter: str


DEFAULT_BUNDLE = bundle_id(DEFAULT_PRECISION)
# Three of the six layers.
FAST_BUNDLE = f"{FAMILY}-fast"
BUNDLES = {bundle_id(precision): Recipe(precision, "minilm-512-adapter.safetensors") for precision in Precision} | {
    FAST_BUNDLE: Recipe(DEFAULT_PRECISION, "minilm-512-fast-adapter.safetensors")
}
