"""Quantises float32 weights to int8 with one scale per row or column.

All arithmetic is elementwise float32, which IEEE 754 defines to the last bit. The bytes are hashed, so they must be the
same on every processor.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

LARGEST = 127
# x86 processors without VNNI multiply two uint8 activations by two int8 weights and add the products in 16 signed bits
# (vpmaddubsw, Intel SDM volume 2C). 255 * 128 fits; 255 * 129 overflows.
LARGEST_PAIR = 128


class Quantised(NamedTuple):
    """Quantised weights. `values * scales` is within half a scale of the original, elementwise."""

    values: NDArray[np.int8]
    scales: Float32


def quantise_columns(weight: Float32) -> Quantised:
    """Quantises a linear layer's weight `[in, out]` with a scale per output. `scales` is `[out]`.

    A column's scale is the smallest at which no value exceeds 127 and no pair of neighbours (inputs 0 and 1, 2 and 3 and
    so on, the pairs that vpmaddubsw adds) exceeds 128 in sum. So every processor computes the same exact integer product,
    with or without VNNI. Only columns whose largest values are neighbours of the same sign lose part of their 8 bits;
    using 7 bits everywhere would avoid overflow too, at a higher loss. Raises ValueError if the number of inputs is odd.
    """
    if weight.shape[0] % 2:
        raise ValueError(f"expected an even number of inputs, found {weight.shape[0]}")
    pairs = weight[0::2] + weight[1::2]
    # Rounding may add one half to each of the two values, hence the 1.
    scales = np.maximum(_largest(weight, 0) / LARGEST, _largest(pairs, 0) / (LARGEST_PAIR - 1))
    return _quantise(weight, scales, 0)


def quantise_rows(table: Float32) -> Quantised:
    """Quantises an embedding table `[entries, hidden]` with a scale per entry. `scales` is `[entries, 1]`."""
    quantised = _quantise(table, _largest(table, 1) / LARGEST, 1)
    return Quantised(quantised.values, quantised.scales[:, None])


def _largest(values: Float32, axis: int) -> Float32:
    return np.abs(values).max(axis=axis)


def _quantise(values: Float32, scales: Float32, axis: int) -> Quantised:
    # Any scale works for a row or column of zeros.
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    steps = np.rint(values / np.expand_dims(scales, axis))
    return Quantised(steps.astype(np.int8), scales)
