"""The encoder in plain float64 numpy: an independent reference for the ONNX graph.

It is written to be read, encodes one text at a time, and shares no operator with the graph. Its error (1e-15) is small
enough that results rounded to 7 decimals are the same on every processor. Sources: BERT (arXiv:1810.04805), gelu in its
exact erf form (arXiv:1606.08415), mean pooling over the mask as in Sentence-BERT (arXiv:1908.10084).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.minilm.adapter import MergedEncoder
from export.minilm.weights import EncoderShape

Array = NDArray[np.float64]

# numpy has no erf. The standard library's is accurate to the last bits.
_erf = np.frompyfunc(math.erf, 1, 1)


def embed(encoder: MergedEncoder, shape: EncoderShape, ids: Sequence[int], mask: Sequence[int] | None = None) -> Array:
    """Returns a text's vector `[512]` from token ids `[tokens]` and an optional mask `[tokens]` of 0 and 1.

    Raises ValueError if there are no tokens, or more than the encoder has positions.
    """
    if not 1 <= len(ids) <= shape.positions:
        raise ValueError(f"expected 1 to {shape.positions} tokens, found {len(ids)}")
    keep = np.ones(len(ids)) if mask is None else np.asarray(mask, dtype=np.float64)
    states = _embeddings(encoder, shape, ids)
    for layer in range(shape.layers):
        block = f"encoder.layer.{layer}"
        attended = _linear(encoder, f"{block}.attention.output.dense", _attention(encoder, shape, block, states, keep))
        states = _layer_norm(encoder, shape, f"{block}.attention.output.LayerNorm", states + attended)
        inner = _gelu(_linear(encoder, f"{block}.intermediate.dense", states))
        outer = _linear(encoder, f"{block}.output.dense", inner)
        states = _layer_norm(encoder, shape, f"{block}.output.LayerNorm", states + outer)
    pooled = (states * keep[:, None]).sum(axis=0) / keep.sum()
    projected = pooled @ encoder.projection.astype(np.float64) + encoder.projection_bias
    if encoder.activation == "tanh":
        return np.tanh(projected)
    return projected / math.sqrt((projected * projected).sum())


def _tensor(encoder: MergedEncoder, name: str) -> Array:
    return encoder.weights[name].astype(np.float64)


def _linear(encoder: MergedEncoder, name: str, inputs: Array) -> Array:
    return inputs @ _tensor(encoder, f"{name}.weight").T + _tensor(encoder, f"{name}.bias")


def _layer_norm(encoder: MergedEncoder, shape: EncoderShape, name: str, inputs: Array) -> Array:
    centred = inputs - inputs.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt(variance + shape.layer_norm_epsilon)
    return normal * _tensor(encoder, f"{name}.weight") + _tensor(encoder, f"{name}.bias")


def _gelu(inputs: Array) -> Array:
    return 0.5 * inputs * (1.0 + _erf(inputs / math.sqrt(2.0)).astype(np.float64))


def _embeddings(encoder: MergedEncoder, shape: EncoderShape, ids: Sequence[int]) -> Array:
    """Returns the normalised sum of token, position and segment embeddings, `[tokens, hidden]`. All segments are 0."""
    words = encoder.weights["embeddings.word_embeddings.weight"][np.asarray(ids)].astype(np.float64)
    positions = encoder.weights["embeddings.position_embeddings.weight"][: len(ids)].astype(np.float64)
    segment = encoder.weights["embeddings.token_type_embeddings.weight"][0].astype(np.float64)
    return _layer_norm(encoder, shape, "embeddings.LayerNorm", words + positions + segment)


def _attention(encoder: MergedEncoder, shape: EncoderShape, block: str, states: Array, keep: Array) -> Array:
    """Returns the scaled dot-product attention of all heads, concatenated to `[tokens, hidden]`."""
    tokens = states.shape[0]
    size = shape.hidden // shape.heads

    def heads(name: str) -> Array:
        return _linear(encoder, f"{block}.attention.self.{name}", states).reshape(tokens, shape.heads, size)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = np.einsum("qhd,khd->hqk", query, key) / math.sqrt(size)
    scores = np.where(keep[None, None, :] > 0, scores, -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = powers / powers.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", shares, value).reshape(tokens, shape.hidden)
