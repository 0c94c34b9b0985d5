from __future__ import annotations

import hashlib

import numpy as np
import pytest

from export.minilm import lift


@pytest.mark.parametrize("hidden", [1, 32, 384, 512])
def test_rows_are_orthonormal(hidden: int) -> None:
    matrix = lift.orthonormal_lift(hidden).astype(np.float64)
    assert np.abs(matrix @ matrix.T - np.eye(hidden)).max() < 1e-6


def test_every_entry_has_the_same_magnitude() -> None:
    assert set(np.abs(lift.orthonormal_lift(384)).ravel().tolist()) == {float(np.float32(512**-0.5))}


def test_bytes_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(lift.orthonormal_lift(384).astype("<f4").tobytes()).hexdigest()
    assert digest == "03ca77387470c79b6bf11f8a516aac40ffea4366ea5b6cc0fcb6a31806c1cd79"


def test_seeds_give_different_lifts() -> None:
    assert (lift.orthonormal_lift(32, seed=1) != lift.orthonormal_lift(32, seed=2)).any()


def test_rejects_more_than_512_dimensions() -> None:
    with pytest.raises(ValueError, match="expected a hidden size from 1 to 512, found 768"):
        lift.orthonormal_lift(768)
