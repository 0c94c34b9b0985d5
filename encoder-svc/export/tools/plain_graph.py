"""The encoder in standard ONNX operators only: the baseline of the fused graph in `minilm/graph.py`."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from export.minilm.adapter import MergedEncoder
from export.minilm.graph import GraphBuilder, pool_and_project
from export.minilm.weights import EncoderShape


def write_plain_graph(encoder: MergedEncoder, shape: EncoderShape) -> bytes:
    """Returns the serialised model. Inputs and output are those of `graph.write_graph`."""
    graph = GraphBuilder()
    weights = encoder.weights
    heads, size = shape.heads, shape.hidden // shape.heads

    def scalar(name: str, value: float) -> str:
        return graph.constant(name, np.array(value, dtype=np.float32))

    def linear(name: str, inputs: str) -> str:
        product = graph.node(
            "MatMul", [inputs, graph.constant(f"{name}.weight", weights[f"{name}.weight"].T)], f"{name}.product"
        )
        return graph.node("Add", [product, graph.constant(f"{name}.bias", weights[f"{name}.bias"])], f"{name}.sum")

    def norm(name: str, inputs: str) -> str:
        scale = graph.constant(f"{name}.weight", weights[f"{name}.weight"])
        bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
        return graph.node(
            "LayerNormalization", [inputs, scale, bias], f"{name}.states", axis=-1, epsilon=shape.layer_norm_epsilon
        )

    half, one, root_two = scalar("half", 0.5), scalar("one", 1.0), scalar("root_two", math.sqrt(2.0))
    scale = scalar("attention.scale", math.sqrt(size))
    split = graph.constant("attention.split", np.array([0, 0, heads, size], dtype=np.int64))
    join = graph.constant("attention.join", np.array([0, 0, shape.hidden], dtype=np.int64))

    keep = graph.node("Cast", ["attention_mask"], "keep", to=TensorProto.FLOAT)
    keep = graph.node("Unsqueeze", [keep, graph.constant("axes", np.array([1, 2], dtype=np.int64))], "keep.row")
    dropped = graph.node("Sub", [one, keep], "dropped")
    mask = graph.node("Mul", [dropped, scalar("lowest", -10000.0)], "mask.scores")

    words = graph.node(
        "Gather", [graph.constant("words", weights["embeddings.word_embeddings.weight"]), "input_ids"], "word"
    )
    table = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0][None, :]
    )
    tokens = graph.node("Shape", ["input_ids"], "tokens.shape", start=1, end=2)
    zero, first = graph.constant("zero", np.array([0], dtype=np.int64)), graph.constant("positions", table)
    positions = graph.node("Slice", [first, zero, tokens, zero], "positions.used")
    states = norm("embeddings.LayerNorm", graph.node("Add", [words, positions], "embeddings.sum"))
    for layer in range(shape.layers):
        block = f"encoder.layer.{layer}"
        split_heads = {}
        for name, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            rows = linear(f"{block}.attention.self.{name}", states)
            rows = graph.node("Reshape", [rows, split], f"{block}.{name}.split")
            split_heads[name] = graph.node("Transpose", [rows], f"{block}.{name}", perm=order)
        scores = graph.node("MatMul", [split_heads["query"], split_heads["key"]], f"{block}.products")
        scores = graph.node("Div", [scores, scale], f"{block}.scores")
        scores = graph.node("Add", [scores, mask], f"{block}.masked")
        shares = graph.node("Softmax", [scores], f"{block}.shares", axis=-1)
        mixed = graph.node("MatMul", [shares, split_heads["value"]], f"{block}.mixed")
        mixed = graph.node("Transpose", [mixed], f"{block}.mixed.rows", perm=[0, 2, 1, 3])
        mixed = graph.node("Reshape", [mixed, join], f"{block}.joined")
        attended = linear(f"{block}.attention.output.dense", mixed)
        attended = graph.node("Add", [attended, states], f"{block}.attention.residual")
        states = norm(f"{block}.attention.output.LayerNorm", attended)
        inner = linear(f"{block}.intermediate.dense", states)
        erf = graph.node("Erf", [graph.node("Div", [inner, root_two], f"{block}.scaled")], f"{block}.erf")
        gelu = graph.node("Mul", [inner, graph.node("Add", [erf, one], f"{block}.erf.one")], f"{block}.double")
        gelu = graph.node("Mul", [gelu, half], f"{block}.gelu")
        outer = linear(f"{block}.output.dense", gelu)
        states = norm(f"{block}.output.LayerNorm", graph.node("Add", [outer, states], f"{block}.residual"))
    pool_and_project(graph, encoder, states)
    return graph.model("plain").SerializeToString(deterministic=True)
