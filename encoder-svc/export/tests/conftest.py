"""Puts the package on Python's path, and provides the tiny bundles and the encoders of all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

EXPORT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(EXPORT.parent))

from export.minilm import lift
from export.minilm.adapter import MergedEncoder, load_adapter
from export.minilm.weights import EncoderShape, find_model_folder, load_shape, load_weights
from export.minilm.wordpiece import without_limits
from export.precision import Precision
from export.tools.tiny_bundle import build_tiny, random_weights, tiny_shape, tokenizer_json, vocabulary

Encoder = tuple[MergedEncoder, EncoderShape, Tokenizer]


@pytest.fixture(scope="session")
def tiny_bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny-512"
    build_tiny(folder, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_int8_bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny-int8-512"
    build_tiny(folder, seed=1, precision=Precision.INT8)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Encoder:
    entries = vocabulary()
    shape = tiny_shape(entries)
    bias = np.linspace(-0.5, 0.5, lift.DIMENSION, dtype=np.float32)
    encoder = MergedEncoder(random_weights(shape, 3), lift.orthonormal_lift(shape.hidden), bias, "l2", "0", "tiny")
    return encoder, shape, Tokenizer.from_str(tokenizer_json(entries).decode())


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    folder = find_model_folder()
    shape = load_shape(folder / "config.json")
    encoder = load_adapter(None, load_weights(folder / "model.safetensors", shape), shape.hidden)
    return encoder, shape, Tokenizer.from_str(without_limits(folder / "tokenizer.json").decode())
