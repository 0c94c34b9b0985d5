"""Compares the service's vectors with a plain numpy forward pass of the same weights."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import ROOT, Services
from reflection import ReflectionClient

sys.path.insert(0, str(ROOT / "encoder-svc"))

from tokenizers import Tokenizer  # noqa: E402

from export.bootstrap import trained_adapter  # noqa: E402
from export.minilm.adapter import load_adapter  # noqa: E402
from export.minilm.forward import embed  # noqa: E402
from export.minilm.weights import find_model_folder, load_shape, load_weights  # noqa: E402

COUNT = 30
TOLERANCE = 1e-5
MIN_COSINE = 0.96
SERVICE = "movieclassifier.encoder.v1.EncoderService"
REAL = ROOT.parent / "shared" / "data" / "movies_metadata.csv"


def written() -> Iterator[str]:
    """Yields `COUNT` made-up overviews of 8 to 90 words."""
    heroes = ["A retired judge", "Two orphaned sisters", "An ageing boxer", "A café owner in Kraków", "The last pilot"]
    wants = ["hunts the man who framed her", "dreams of the sea", "must cross a frozen desert", "hides a stolen painting"]
    turns = ["until a stranger arrives.", "while war draws near, and nobody can be trusted.", "— or so it seems…", "in 1943."]
    ends = ["", " Based on a true story.", " What begins as a game ends in fire. " * 6]
    # numpy takes 0.2 s a text, so every eighth combination.
    for end, turn, want, hero in itertools.islice(itertools.product(ends, turns, wants, heroes), 0, None, 8):
        yield f"{hero} {want} {turn}{end}"


def real() -> Iterator[str]:
    if not REAL.is_file():
        pytest.skip(f"no data at {REAL.relative_to(ROOT.parent)}")
    with REAL.open(newline="", encoding="utf-8") as file:
        yield from (row["overview"] for row in csv.DictReader(file) if (row["overview"] or "").strip())


class Reference:
    """The numpy forward pass, with the adapter of the bundles."""

    def __init__(self, max_tokens: int) -> None:
        folder = find_model_folder()
        self._shape = load_shape(folder / "config.json")
        weights = load_weights(folder / "model.safetensors", self._shape)
        adapter = trained_adapter("minilm-512")
        self._merged = load_adapter(adapter, weights, self._shape.hidden)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def vector(self, text: str, token_count: int) -> np.ndarray:
        ids = self._tokenizer.encode(text).ids
        assert len(ids) == token_count
        return embed(self._merged, self._shape, ids)


def compare(address: str, texts: list[str]) -> tuple[float, float]:
    """Returns the largest absolute difference and the smallest cosine between the service's vectors and the reference."""
    encoder = ReflectionClient(grpc.insecure_channel(address))
    reference = Reference(encoder.call(SERVICE, "GetEncoder").max_tokens)
    response = encoder.call(SERVICE, "Encode", texts=texts, priority=2)
    differences, cosines = [], []
    for text, embedding in zip(texts, response.embeddings, strict=True):
        expected, found = reference.vector(text, embedding.token_count), np.array(embedding.values)
        differences.append(np.abs(expected - found).max())
        cosines.append(expected @ found / (np.linalg.norm(expected) * np.linalg.norm(found)))
    return float(max(differences)), float(min(cosines))


@pytest.mark.parametrize("source", [written, real])
def test_single_precision_vectors_match_numpy(fp32_encoder: str, source: Any) -> None:
    texts = list(itertools.islice(source(), COUNT))
    assert len(texts) == COUNT
    largest, _ = compare(fp32_encoder, texts)
    print(f"largest absolute difference over {COUNT} texts: {largest:.2e}")
    assert largest < TOLERANCE


def test_default_vectors_point_where_numpy_does(services: Services) -> None:
    """The default bundle computes in int8, which rounds differently on each processor, so only the angle is stable."""
    _, smallest = compare(services.encoder, list(itertools.islice(written(), COUNT)))
    print(f"smallest cosine: {smallest:.4f}")
    assert smallest > MIN_COSINE
