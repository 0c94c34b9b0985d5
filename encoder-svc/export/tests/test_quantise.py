from __future__ import annotations

import hashlib

import numpy as np
import pytest

from export.minilm import lift
from export.minilm.quantise import LARGEST, LARGEST_PAIR, quantise_columns, quantise_rows


def weight(inputs: int = 64, outputs: int = 48) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((inputs, outputs)).astype(np.float32)


def test_every_value_is_within_half_a_step() -> None:
    columns = quantise_columns(weight())
    assert (np.abs(columns.values * columns.scales - weight()) <= columns.scales * 0.501).all()
    rows = quantise_rows(weight())
    assert rows.scales.shape == (64, 1)
    assert (np.abs(rows.values * rows.scales - weight()) <= rows.scales * 0.501).all()
    assert np.abs(rows.values).max(axis=1).min() == LARGEST


@pytest.mark.parametrize("largest_together", [True, False])
def test_no_pair_of_products_exceeds_16_bits(largest_together: bool) -> None:
    extreme = weight()
    extreme[6, :] = 9.0
    extreme[7 if largest_together else 8, :] = 9.0
    values = quantise_columns(extreme).values.astype(np.int32)
    pairs = values[0::2] + values[1::2]
    assert np.abs(pairs).max() <= LARGEST_PAIR
    assert 255 * LARGEST_PAIR <= np.iinfo(np.int16).max < 255 * (LARGEST_PAIR + 1)
    # Apart, both values keep all their bits. As a pair, they share the range.
    assert np.abs(values).max() == (LARGEST_PAIR // 2 - 1 if largest_together else LARGEST)


def test_zeros_stay_zeros() -> None:
    assert not quantise_columns(np.zeros((4, 3), dtype=np.float32)).values.any()
    assert (quantise_rows(np.zeros((4, 3), dtype=np.float32)).scales == 1).all()


def test_rejects_an_odd_number_of_inputs() -> None:
    with pytest.raises(ValueError, match="expected an even number of inputs, found 3"):
        quantise_columns(np.zeros((3, 2), dtype=np.float32))


def test_bytes_are_the_same_on_every_machine() -> None:
    # Thirds make every division round.
    table = np.cumsum(lift.orthonormal_lift(384), axis=1, dtype=np.float32) / np.float32(3)
    digest = hashlib.sha256()
    for quantised in (quantise_columns(table), quantise_rows(table)):
        digest.update(quantised.values.tobytes())
        digest.update(quantised.scales.astype("<f4").tobytes())
    assert digest.hexdigest() == "0091bef65f43b811d21685a443674081b31b554e14de9a5e9858ed3642fc4888"
