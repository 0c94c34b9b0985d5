"""The lift: a fixed, seeded, orthonormal map from the encoder's hidden size to 512 dimensions.

It keeps inner products, so a lifted vector has the same information as the original one. It comes from a Sylvester
Hadamard matrix (https://en.wikipedia.org/wiki/Hadamard_matrix#Sylvester's_construction) instead of a QR decomposition:
every entry is +-1/sqrt(512), computed elementwise, so its bytes are the same on every processor.
"""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray

DIMENSION = 512
SEED = 20240512


def hadamard(order: int) -> NDArray[np.float32]:
    """Returns the Sylvester Hadamard matrix `[order, order]` of +1 and -1. `order` must be a power of 2."""
    if order < 1 or order & (order - 1):
        raise ValueError(f"expected a power of two, found {order}")
    matrix = np.ones((1, 1), dtype=np.float32)
    while matrix.shape[0] < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def orthonormal_lift(hidden: int, seed: int = SEED) -> NDArray[np.float32]:
    """Returns the lift `[hidden, 512]`. Its rows are orthonormal, so `x @ lift` has the length of `x`.

    `seed` determines the signs and the order of rows and columns. Without them, the first output would be the plain sum
    of all inputs. Raises ValueError if `hidden` is over 512.
    """
    if not 1 <= hidden <= DIMENSION:
        raise ValueError(f"expected a hidden size from 1 to {DIMENSION}, found {hidden}")
    # random.Random is a Mersenne Twister with defined output. numpy's streams may change between releases.
    generator = random.Random(seed)
    rows = generator.sample(range(DIMENSION), hidden)
    columns = generator.sample(range(DIMENSION), DIMENSION)
    row_signs = np.array([generator.choice((-1, 1)) for _ in rows], dtype=np.float32)
    column_signs = np.array([generator.choice((-1, 1)) for _ in columns], dtype=np.float32)
    signs = hadamard(DIMENSION)[rows][:, columns] * row_signs[:, None] * column_signs[None, :]
    return signs * np.float32(1.0 / math.sqrt(DIMENSION))
