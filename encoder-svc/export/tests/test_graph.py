"""Compares the ONNX graph with the float64 reference, for the tiny encoder and for the real one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import Encoder

from export.minilm import forward
from export.minilm.build import open_session, run_session
from export.minilm.graph import write_graph
from export.minilm.wordpiece import tokenize
from export.reference_texts import REFERENCE_TEXTS
from export.tools.plain_graph import write_plain_graph
from export.tools.tiny_bundle import MAX_TOKENS


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_matches_the_reference_alone_and_in_a_padded_batch(
    name: str, request: pytest.FixtureRequest
) -> None:
    encoder, shape, tokenizer = request.getfixturevalue(name)
    session = open_session(write_graph(encoder, shape, name))
    batch = [tokenize(tokenizer, text, MAX_TOKENS).ids for text in REFERENCE_TEXTS]
    expected = np.array([forward.embed(encoder, shape, ids) for ids in batch])
    alone = np.array([run_session(session, [ids])[0] for ids in batch])
    assert np.abs(alone - expected).max() < 2e-6
    assert np.abs(run_session(session, batch) - expected).max() < 1e-5
    assert np.abs(np.linalg.norm(alone, axis=1) - 1).max() < 1e-6


def test_plain_graph_gives_the_same_vectors(tiny: Encoder) -> None:
    encoder, shape, tokenizer = tiny
    session = open_session(write_plain_graph(encoder, shape))
    ids = tokenize(tokenizer, REFERENCE_TEXTS[1], MAX_TOKENS).ids
    assert np.abs(run_session(session, [ids])[0] - forward.embed(encoder, shape, ids)).max() < 2e-6


def test_tanh_replaces_the_normalisation(tiny: Encoder) -> None:
    encoder, shape, tokenizer = tiny
    squashed = replace(encoder, activation="tanh")
    ids = tokenize(tokenizer, REFERENCE_TEXTS[1], MAX_TOKENS).ids
    found = run_session(open_session(write_graph(squashed, shape, "tanh")), [ids])[0]
    assert np.abs(found - forward.embed(squashed, shape, ids)).max() < 2e-6
    assert abs(np.linalg.norm(found) - 1) > 0.1


def test_masked_token_has_no_effect(tiny: Encoder) -> None:
    encoder, shape, _ = tiny
    short = forward.embed(encoder, shape, [2, 50, 60, 3])
    padded = forward.embed(encoder, shape, [2, 50, 60, 3, 9, 9], [1, 1, 1, 1, 0, 0])
    assert np.abs(short - padded).max() < 1e-12


def test_lift_keeps_similarities(minilm: Encoder) -> None:
    encoder, shape, tokenizer = minilm
    texts = ("a man is eating food", "a man eats something", "the stock market fell today")
    first, second, third = (forward.embed(encoder, shape, tokenize(tokenizer, text, 64).ids) for text in texts)
    assert first @ second > 0.7 > 0.3 > first @ third


def test_truncated_text_keeps_its_separator(tiny: Encoder) -> None:
    _, _, tokenizer = tiny
    tokens = tokenize(tokenizer, "a b c d e f", 5)
    assert tokens.truncated
    assert [tokenizer.id_to_token(i) for i in tokens.ids] == ["[CLS]", "a", "b", "c", "[SEP]"]
