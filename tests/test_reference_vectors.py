"""The service's vectors against a plain numpy forward pass of the same weights."""

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

sys.path.insert(0, str(ROOT / "encoder-svc" / "export"))

from adapter import load_adapter  # noqa: E402
from bootstrap import DEFAULT_ADAPTER  # noqa: E402
from minilm_forward import embed  # noqa: E402
from minilm_weights import find_model_folder, load_shape, load_weights  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

COUNT = 200
TOLERANCE = 1e-5
REAL = ROOT.parent / "shared" / "data" / "movies_metadata.csv"


def written() -> Iterator[str]:
    """Overviews made of parts, 8 to 90 words long."""
    heroes = ["A retired judge", "Two orphaned sisters", "An ageing boxer", "A café owner in Kraków", "The last pilot"]
    wants = ["hunts the man who framed her", "dreams of the sea", "must cross a frozen desert", "hides a stolen painting"]
    turns = ["until a stranger arrives.", "while war draws near, and nobody can be trusted.", "— or so it seems…", "in 1943."]
    ends = ["", " Based on a true story.", " What begins as a game ends in fire. " * 6]
    for end, turn, want, hero in itertools.product(ends, turns, wants, heroes):
        yield f"{hero} {want} {turn}{end}"


def real() -> Iterator[str]:
    if not REAL.is_file():
        pytest.skip(f"no data at {REAL.relative_to(ROOT.parent)}")
    with REAL.open(newline="", encoding="utf-8") as file:
        yield from (row["overview"] for row in csv.DictReader(file) if (row["overview"] or "").strip())


@pytest.mark.parametrize("source", [written, real])
def test_vectors_are_those_of_a_numpy_forward_pass(services: Services, source: Any) -> None:
    texts = list(itertools.islice(source(), COUNT))
    assert len(texts) == COUNT
    encoder = ReflectionClient(grpc.insecure_channel(services.encoder))
    service = "movieclassifier.encoder.v1.EncoderService"
    max_tokens = encoder.call(service, "GetEncoder").max_tokens
    answer = encoder.call(service, "Encode", texts=texts, priority=2)

    folder = find_model_folder()
    shape = load_shape(folder / "config.json")
    weights = load_weights(folder / "model.safetensors", shape)
    merged = load_adapter(DEFAULT_ADAPTER if DEFAULT_ADAPTER.is_file() else None, weights, shape.hidden)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)

    largest = 0.0
    for text, embedding in zip(texts, answer.embeddings, strict=True):
        ids = tokenizer.encode(text).ids
        assert len(ids) == embedding.token_count
        largest = max(largest, float(np.abs(embed(merged, shape, ids) - np.array(embedding.values)).max()))
    print(f"largest absolute difference over {COUNT} texts: {largest:.2e}")
    assert largest < TOLERANCE
