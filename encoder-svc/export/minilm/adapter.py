"""Combines the published weights with a trained adapter: the weights and the projection that go into the graph.

Without an adapter file, the weights stay as published and the projection is the seeded lift. With one, its updates are
merged into the weights and its projection replaces the lift. adapt/adapter_file.py writes the file and describes it in
full. In short, it is a `.safetensors` file with the metadata `format` = "minilm-adapter-2" and these tensors:

    NAME.lora_up [out, rank], NAME.lora_down [rank, in]   `form` = "low-rank" (LoRA, Hu et al., 2021, arXiv:2106.09685)
    NAME.delta [out, in] int8, NAME.delta_scale [out]     `form` = "delta-int8"
    a tensor named like one of the weights                replaces the published one
    projection.weight [512, hidden], projection.bias [512]

NAME is a linear layer such as encoder.layer.0.attention.self.query. With the metadata `layers`, such as 0,2,4, only
those layers of the published weights stay, and NAME numbers them anew. The metadata also has `version`, `description`,
`activation` ("l2" or "tanh") and `base_sha256`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from export.minilm import lift
from export.minilm.weights import WEIGHTS_SHA256, EncoderShape, Weights, count_layers, of_layers, parse_layers

FORMAT = "minilm-adapter-2"
# How the projected vector becomes the final one: divided by its length, or through tanh.
ACTIVATIONS = ("l2", "tanh")

Float32 = NDArray[np.float32]
Stored = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class MergedEncoder:
    """The input of the graph writers. `projection` is `[hidden, 512]`, `projection_bias` is `[512]`."""

    weights: Weights
    projection: Float32
    projection_bias: Float32
    activation: str
    version: str
    description: str

    def shape(self, published: EncoderShape) -> EncoderShape:
        """Returns the sizes of this encoder, which may have fewer layers than the published one."""
        return replace(published, layers=count_layers(self.weights))


class AdapterError(Exception):
    """The adapter file is unreadable, or does not fit the weights."""


def load_adapter(path: Path | None, weights: Weights, hidden: int, base_sha256: str = WEIGHTS_SHA256) -> MergedEncoder:
    """Merges the adapter at `path` into `weights`. `None` keeps the published weights and uses the seeded lift.

    Raises AdapterError if the file is missing, has another format, was trained on other weights (`base_sha256`), or
    holds a tensor that fits none of the weights.
    """
    if path is None:
        return MergedEncoder(
            weights=weights,
            projection=lift.orthonormal_lift(hidden),
            projection_bias=np.zeros(lift.DIMENSION, dtype=np.float32),
            activation="l2",
            version="0.1.0-lift",
            description="sentence-transformers/all-MiniLM-L6-v2, mean pooled, lifted to 512 dimensions, normalised",
        )
    tensors, metadata = _read(path)
    if metadata["base_sha256"] != base_sha256:
        raise AdapterError(f"{path.name}: expected base_sha256 {base_sha256}, found {metadata['base_sha256']}")
    if metadata["activation"] not in ACTIVATIONS:
        raise AdapterError(f"{path.name}: expected activation l2 or tanh, found {metadata['activation']!r}")
    try:
        projection = _take(tensors, "projection.weight", (lift.DIMENSION, hidden)).T
        bias = _take(tensors, "projection.bias", (lift.DIMENSION,))
        if "layers" in metadata:
            weights = of_layers(weights, parse_layers(metadata["layers"], count_layers(weights)))
        merged = _merge(weights, tensors)
    except (AdapterError, ValueError) as error:
        raise AdapterError(f"{path.name}: {error}") from error
    return MergedEncoder(merged, projection, bias, metadata["activation"], metadata["version"], metadata["description"])


def low_rank_update(up: Float32, down: Float32) -> Float32:
    """Returns `up [out, rank] @ down [rank, in]`, computed one rank at a time in float32.

    A matrix product adds in an order that depends on the processor, and the result is hashed, so this is elementwise.
    """
    update = np.zeros((up.shape[0], down.shape[1]), dtype=np.float32)
    for rank in range(up.shape[1]):
        update += up[:, rank, None] * down[None, rank, :]
    return update


def _merge(weights: Weights, tensors: Stored) -> Weights:
    """Returns `weights` with every tensor of the adapter merged in. Each tensor must belong to one of them."""
    merged = dict(weights)
    for name in sorted(tensors):
        layer, _, role = name.rpartition(".")
        if name in weights:
            merged[name] = _take(tensors, name, weights[name].shape)
        elif role in ("lora_up", "delta") and f"{layer}.weight" in weights:
            weight = weights[f"{layer}.weight"]
            merged[f"{layer}.weight"] = weight + _update(tensors, layer, role, weight.shape)
    if tensors:
        raise AdapterError(f"expected tensors that fit the weights, found {min(tensors)!r}")
    return merged


def _update(tensors: Stored, layer: str, role: str, size: tuple[int, ...]) -> Float32:
    """Returns the update that is added to a layer's weight `[out, in]`."""
    rows, columns = size
    if role == "delta":
        steps = _take(tensors, f"{layer}.delta", size)
        return steps * _take(tensors, f"{layer}.delta_scale", (rows,))[:, None]
    rank = tensors[f"{layer}.lora_up"].shape[-1]
    up = _take(tensors, f"{layer}.lora_up", (rows, rank))
    return low_rank_update(up, _take(tensors, f"{layer}.lora_down", (rank, columns)))


def _read(path: Path) -> tuple[Stored, dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path.name}: expected a readable safetensors file, found: {error}") from error
    if metadata.get("format") != FORMAT:
        raise AdapterError(f"{path.name}: expected format {FORMAT!r}, found {metadata.get('format')!r}")
    for key in ("version", "description", "activation", "base_sha256"):
        if key not in metadata:
            raise AdapterError(f"{path.name}: expected metadata {key!r}, found {sorted(metadata)}")
    return tensors, metadata


def _take(tensors: Stored, name: str, size: tuple[int, ...]) -> Float32:
    """Removes a tensor and widens it to float32, which is exact. Tensors that remain at the end fit nowhere."""
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise AdapterError(f"expected tensor {name!r}, found none of that name")
    if tensor.dtype not in (np.float32, np.float16, np.int8) or tensor.shape != size:
        raise AdapterError(
            f"{name}: expected float32, float16 or int8 {list(size)}, found {tensor.dtype} {list(tensor.shape)}"
        )
    return tensor.astype(np.float32)
