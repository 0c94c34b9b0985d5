from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from export.minilm.adapter import FORMAT, AdapterError, load_adapter, low_rank_update
from export.minilm.weights import EncoderShape

BASE = "a" * 64
LAYER = "encoder.layer.0.attention.self.query"
METADATA = {
    "format": FORMAT,
    "version": "1.0.0",
    "description": "test",
    "activation": "tanh",
    "base_sha256": BASE,
}
SHAPE = EncoderShape(
    layers=3, hidden=32, heads=2, feed_forward=64, vocabulary=9, positions=8, layer_norm_epsilon=1e-12
)
Tensors = dict[str, np.ndarray]


def base_weights() -> Tensors:
    return {f"{LAYER}.weight": np.ones((32, 32), dtype=np.float32), f"{LAYER}.bias": np.ones(32, dtype=np.float32)}


def common() -> Tensors:
    generator = np.random.default_rng(7)
    return {
        "projection.weight": generator.standard_normal((512, 32)).astype(np.float16),
        "projection.bias": generator.standard_normal(512).astype(np.float32),
        f"{LAYER}.bias": generator.standard_normal(32).astype(np.float32),
    }


def low_rank(rank: int = 3) -> Tensors:
    generator = np.random.default_rng(8)
    return common() | {
        f"{LAYER}.lora_up": generator.standard_normal((32, rank)).astype(np.float16),
        f"{LAYER}.lora_down": generator.standard_normal((rank, 32)).astype(np.float16),
    }


def int8() -> Tensors:
    generator = np.random.default_rng(9)
    return common() | {
        f"{LAYER}.delta": generator.integers(-127, 128, (32, 32)).astype(np.int8),
        f"{LAYER}.delta_scale": generator.random(32).astype(np.float32),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter.safetensors"


def test_low_rank_update_equals_the_matrix_product() -> None:
    up, down = (low_rank()[f"{LAYER}.lora_{side}"].astype(np.float32) for side in ("up", "down"))
    assert np.allclose(low_rank_update(up, down), up.astype(np.float64) @ down, atol=1e-5)


def test_merges_a_low_rank_adapter(path: Path) -> None:
    tensors = low_rank()
    save_file(tensors, path, METADATA)
    merged = load_adapter(path, base_weights(), 32, BASE)
    update = tensors[f"{LAYER}.lora_up"].astype(np.float64) @ tensors[f"{LAYER}.lora_down"].astype(np.float64)
    assert np.allclose(merged.weights[f"{LAYER}.weight"], 1 + update, atol=1e-5)
    assert (merged.weights[f"{LAYER}.bias"] == tensors[f"{LAYER}.bias"]).all()
    assert (merged.projection == tensors["projection.weight"].T).all()
    assert (merged.projection_bias == tensors["projection.bias"]).all()
    assert (merged.activation, merged.version) == ("tanh", "1.0.0")


def test_merges_an_int8_adapter(path: Path) -> None:
    tensors = int8()
    save_file(tensors, path, METADATA)
    merged = load_adapter(path, base_weights(), 32, BASE)
    update = tensors[f"{LAYER}.delta"].astype(np.float64) * tensors[f"{LAYER}.delta_scale"][:, None]
    assert np.allclose(merged.weights[f"{LAYER}.weight"], 1 + update, atol=1e-4)


def test_an_adapter_may_keep_some_of_the_layers(path: Path) -> None:
    weights = {f"encoder.layer.{i}.{name}": tensor + i for i in range(3) for name, tensor in of_layer(base_weights()).items()}
    tensors = int8()
    save_file(tensors, path, METADATA | {"layers": "1,2"})
    merged = load_adapter(path, weights, 32, BASE)
    assert merged.shape(SHAPE).layers == 2
    update = tensors[f"{LAYER}.delta"].astype(np.float64) * tensors[f"{LAYER}.delta_scale"][:, None]
    assert np.allclose(merged.weights[f"{LAYER}.weight"], 2 + update, atol=1e-4)
    assert (merged.weights[LAYER.replace("layer.0", "layer.1") + ".weight"] == 3).all()


def of_layer(weights: Tensors) -> Tensors:
    return {name.removeprefix("encoder.layer.0."): tensor for name, tensor in weights.items()}


def test_without_adapter_keeps_the_weights_and_uses_the_lift() -> None:
    weights = base_weights()
    merged = load_adapter(None, weights, 32)
    assert (merged.activation, merged.version) == ("l2", "0.1.0-lift")
    assert merged.weights is weights
    assert merged.projection.shape == (32, 512)


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        ({"stray": np.zeros(1, dtype=np.float32)}, {}, "expected tensors that fit the weights, found 'stray'"),
        (
            {"projection.bias": np.zeros(3, dtype=np.float32)},
            {},
            r"projection.bias: expected .* \[512\], found float32",
        ),
        ({}, {"format": "other"}, "expected format 'minilm-adapter-2', found 'other'"),
        ({}, {"base_sha256": "b"}, "expected base_sha256 aaaa.*, found b"),
        ({}, {"activation": "relu"}, "expected activation l2 or tanh, found 'relu'"),
        ({}, {"layers": "0,1"}, "expected layers from 0 to 0 in ascending order, such as 0,2,4, found '0,1'"),
        ({}, {"layers": "0,0"}, "expected layers from 0 to 0 in ascending order"),
        ({}, {"layers": ""}, "expected layers from 0 to 0 in ascending order"),
    ],
)
def test_rejects_an_adapter_that_does_not_fit(
    change: Tensors, metadata: dict[str, str], message: str, path: Path
) -> None:
    save_file(low_rank() | change, path, METADATA | metadata)
    with pytest.raises(AdapterError, match=message):
        load_adapter(path, base_weights(), 32, BASE)


def test_rejects_a_missing_file(path: Path) -> None:
    with pytest.raises(AdapterError, match="expected a readable safetensors file"):
        load_adapter(path, base_weights(), 32, BASE)
