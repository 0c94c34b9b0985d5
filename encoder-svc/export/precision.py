"""The precisions a bundle comes in: which one `minilm-512` names, and how near each keeps to the reference vectors.

Only the standard library is used here, as bootstrap.py reads this before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """How the graph multiplies: FP32 serves processors and GPUs; INT8 is for processors, each text alone."""

    FP32 = "fp32"
    INT8 = "int8"


# The one switch: the bundle of this precision is `minilm-512`, the other one `minilm-512-PRECISION`.
DEFAULT_PRECISION = Precision.INT8
FAMILY = "minilm-512"


@dataclass(frozen=True)
class Bound:
    """How far a graph's vector may be from the reference one, under the manifest's name for it.

    `tolerance` is the largest difference of any number; `min_cosine` is the smallest cosine between the two vectors.
    """

    key: str
    limit: float


# Float32 code differs between processors, and one rounding that falls the other way moves an activation by a whole int8
# step: no tolerance on single numbers would hold. So int8's bound is on the angle. Over 1,000 overviews trained vectors
# kept a cosine of 0.988 or more to the unquantised ones, those of the seeded lift 0.969; the vectors of two different
# texts have 0.5 to 0.6 and 0.16 on average (tools/compare_precision.py).
BOUNDS = {Precision.FP32: Bound("tolerance", 1e-5), Precision.INT8: Bound("min_cosine", 0.96)}


def bundle_id(precision: Precision) -> str:
    """The id of the MiniLM bundle in `precision`, which is also its folder's name."""
    return FAMILY if precision is DEFAULT_PRECISION else f"{FAMILY}-{precision}"


BUNDLES = {bundle_id(precision): precision for precision in Precision}
DEFAULT_BUNDLE = bundle_id(DEFAULT_PRECISION)
