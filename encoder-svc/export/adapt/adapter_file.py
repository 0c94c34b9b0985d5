"""The adapter file: the result of adaptation, small enough to commit.

One safetensors file. For each adapted linear layer NAME of the base (``encoder.layer.{0..5}.`` and then
``attention.self.query``, ``.key``, ``.value``, ``attention.output.dense`` [384, 384], ``intermediate.dense``
[1536, 384], ``output.dense`` [384, 1536]) it has one of two forms, named by the metadata's ``form``:

    form low-rank    NAME.lora_up      F16 [out, rank]  W = W_base + lora_up @ lora_down
                     NAME.lora_down    F16 [rank, in]
    form delta-int8  NAME.delta        I8  [out, in]    W = W_base + delta * delta_scale[:, None]
                     NAME.delta_scale  F32 [out]

There is no other scaling (``scale`` is 1). Widen the stored values to float32 before computing.

    stored in full under the base file's names, replacing the base's values:
        NAME.bias of all adapted layers, encoder.layer.{i}.attention.output.LayerNorm.{weight,bias},
        encoder.layer.{i}.output.LayerNorm.{weight,bias}, embeddings.LayerNorm.{weight,bias}   F32
    new, applied to the mean over the tokens of the last layer (without padding):
        projection.weight  F16 [512, 384]
        projection.bias    F32 [512]
        vector = activation(projection.weight @ mean + projection.bias); activation is tanh, or l2 (x / |x|)

Word, position and token-type embeddings are the base's. An encoder may have fewer layers than the base: ``layers``
names those of the base that it has, such as ``0,2,4``, and NAME numbers them anew, from 0. All metadata values are strings: ``format``
(minilm-adapter-2), ``version`` (of the resulting bundle), ``description``, ``layers`` (absent: all), ``form``, ``rank`` (0 for delta-int8),
``scale``, ``activation``, ``pooling``, ``base_sha256``, ``dimension``, ``max_tokens``, ``text_template``, ``text_without_title``, ``split_rule``,
``data_sha256``, ``config`` (JSON, a list with the settings of each averaged run), ``config_sha256``, ``validation`` (JSON).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from export.adapt.data import LABELS
from export.adapt.model import LAYERS, VECTOR, MovieEncoder, adapted_names, small_names
from export.minilm.weights import parse_layers

FORMAT, VERSION = "minilm-adapter-2", "1.4.0"
SERVED_TOKENS = 256


class AdapterError(Exception):
    """The adapter cannot be written or read. The message says why."""


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def truncated(delta: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns the best factors (up, down) of a matrix with rank `rank`. Both share its singular values evenly.

    Signs are fixed, so the same matrix always gives the same file.
    """
    u, s, vt = torch.linalg.svd(delta.double(), full_matrices=False)
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    sign = torch.sign(vt[torch.arange(rank), vt.abs().argmax(1)])
    root = s.sqrt() * sign
    return (u * root).float(), (vt * root[:, None]).float()


def quantised(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Returns int8 values with one scale per row."""
    scale = delta.abs().amax(1).clamp(min=1e-12) / 127
    return torch.round(delta / scale[:, None]).to(torch.int8), scale


def tensors_of(model: MovieEncoder, base: MovieEncoder, form: str, rank: int) -> dict[str, Tensor]:
    """Returns the adapter's tensors for a trained model and its base."""
    out: dict[str, Tensor] = {}
    for name in adapted_names(len(model.layers)):
        layer = model.get_submodule(name)
        own = base.get_submodule(name).weight
        if form == "delta-int8":
            out[f"{name}.delta"], out[f"{name}.delta_scale"] = quantised(layer.merged().detach() - own)
        elif form == "low-rank":
            up, down = truncated(layer.merged().detach() - own, rank)
            out[f"{name}.lora_up"], out[f"{name}.lora_down"] = up.half(), down.half()
        else:
            raise AdapterError(f"expected form low-rank or delta-int8, found {form}")
    state = model.state_dict()
    for name in small_names(len(model.layers)):
        out[name] = state[name].float().clone()
    out["projection.weight"] = state["projection.weight"].half()
    out["projection.bias"] = state["projection.bias"].float().clone()
    return {name: tensor.detach().contiguous() for name, tensor in sorted(out.items())}


@torch.no_grad()
def merge(model: MovieEncoder, tensors: dict[str, Tensor]) -> None:
    """Adds an adapter's tensors to a model with the base's weights."""
    state = model.state_dict()
    for name in adapted_names(len(model.layers)):
        if f"{name}.delta" in tensors:
            delta = tensors[f"{name}.delta"].float() * tensors[f"{name}.delta_scale"].float()[:, None]
        else:
            delta = tensors[f"{name}.lora_up"].float() @ tensors[f"{name}.lora_down"].float()
        state[f"{name}.weight"].add_(delta)
    for name in [*small_names(len(model.layers)), "projection.weight", "projection.bias"]:
        state[name].copy_(tensors[name].float())


def fresh_base(base: Path, activation: str, layers: Sequence[int] = range(LAYERS)) -> MovieEncoder:
    model = MovieEncoder(len(LABELS), activation, 0.0, 0.0, layers)
    model.load_base(base / "model.safetensors")
    model.eval()
    return model


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata=metadata)
    temporary.chmod(0o644)  # safetensors lets only the owner read the file.
    os.replace(temporary, path)


def read(path: Path, base: Path) -> tuple[MovieEncoder, dict[str, str]]:
    """Returns a model with the adapter at `path` merged into the base, and the adapter's metadata."""
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except OSError as error:
        raise AdapterError(f"{path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise AdapterError(f"{path}: expected format {FORMAT}, found {metadata.get('format')!r}")
    found = sha256_of(base / "model.safetensors")
    if metadata["base_sha256"] != found:
        raise AdapterError(f"{path}: expected the base {metadata['base_sha256'][:12]}…, found {found[:12]}…")
    try:
        layers = parse_layers(metadata["layers"], LAYERS) if "layers" in metadata else range(LAYERS)
    except ValueError as error:
        raise AdapterError(f"{path}: {error}") from error
    model = fresh_base(base, metadata["activation"], layers)
    merge(model, tensors)
    return model, metadata


def describe(
    model: MovieEncoder, base: Path, form: str, rank: int, configs: list[dict], data_sha256: str,
    templates: tuple[str, str], split_rule: str, validation: dict,
) -> dict[str, str]:  # fmt: skip
    """Returns the metadata of an adapter file."""
    settings = json.dumps(configs, sort_keys=True)
    return {
        "format": FORMAT,
        "version": VERSION,
        "description": f"{len(model.layers)} layers of all-MiniLM-L6-v2 taught movie genres, mean pooled, projected to 512",
        "layers": ",".join(map(str, model.layers)),
        "form": form,
        "rank": str(rank if form == "low-rank" else 0),
        "scale": "1",
        "activation": model.activation,
        "pooling": "mean",
        "base_sha256": sha256_of(base / "model.safetensors"),
        "dimension": str(VECTOR),
        "max_tokens": str(SERVED_TOKENS),
        "text_template": templates[0],
        "text_without_title": templates[1],
        "split_rule": split_rule,
        "data_sha256": data_sha256,
        "config": settings,
        "config_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "validation": json.dumps(validation, sort_keys=True),
    }
