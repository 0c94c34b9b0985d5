"""The int8 graph is close to the float64 reference and depends only on the text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import onnx
import onnxruntime
import pytest
from conftest import Encoder

from export.minilm import forward
from export.minilm.build import distance, open_session, run_session
from export.minilm.graph_int8 import write_graph
from export.minilm.wordpiece import tokenize
from export.precision import BOUNDS, Precision
from export.reference_texts import REFERENCE_TEXTS
from export.tools.tiny_bundle import MAX_TOKENS

BOUND = BOUNDS[Precision.INT8]


@pytest.mark.parametrize("activation", ["l2", "tanh"])
@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_vectors_point_where_the_reference_does(name: str, activation: str, request: pytest.FixtureRequest) -> None:
    encoder, shape, tokenizer = request.getfixturevalue(name)
    encoder = replace(encoder, activation=activation)
    session = open_session(write_graph(encoder, shape, name))
    for text in REFERENCE_TEXTS[1:4]:
        ids = tokenize(tokenizer, text, MAX_TOKENS).ids
        found = run_session(session, [ids])[0]
        assert distance(BOUND, found, forward.embed(encoder, shape, ids)) < (1 - BOUND.limit) / 2


def test_two_threads_give_the_same_bits(minilm: Encoder) -> None:
    encoder, shape, tokenizer = minilm
    model = write_graph(encoder, shape, "minilm")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    two = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    ids = tokenize(tokenizer, REFERENCE_TEXTS[2], MAX_TOKENS).ids
    assert (run_session(two, [ids]) == run_session(open_session(model), [ids])).all()


def test_vector_excludes_masked_tokens(tiny: Encoder) -> None:
    encoder, shape, _ = tiny
    session = open_session(write_graph(encoder, shape, "tiny"))
    short, long = [2, 50, 60, 3], [2, 70, 80, 90, 100, 110, 3]
    padded = run_session(session, [short, long])[0]
    assert distance(BOUND, padded, forward.embed(encoder, shape, short)) < 0.005


def test_onnx_runtime_does_not_apply_the_slow_fusion(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> None:
    encoder, shape, _ = tiny
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path_factory.mktemp("graph") / "optimised.onnx")
    onnxruntime.InferenceSession(write_graph(encoder, shape, "tiny"), options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert "SkipLayerNormalization" not in operators
    assert operators["LayerNormalization"] == 2 * shape.layers + 1
