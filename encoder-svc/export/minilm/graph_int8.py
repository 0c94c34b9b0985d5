"""Writes the encoder as an ONNX graph that multiplies in int8; inputs and output as in `graph`.

Every linear layer of the blocks runs on int8 weights, one scale an output (quantise.py), and on uint8 activations whose
scale and zero point are found at run time from the tensor's smallest and largest value (ONNX's DynamicQuantizeLinear).
The word table is int8 too, one scale a word, which quarters the file. Attention's inner products, softmax, gelu,
normalisation, pooling and the projection stay in float32.

An activation scale spans the whole tensor: fed alone, as the service does, a text's vector is a function of that text;
in a batch it would depend on the texts beside it, and this graph is for processors that run one text at a time.

Chosen by measuring (tools/compare_precision.py, real overviews, one thread, AVX-512 VNNI), texts/s over the float32
graph's: this graph 2.35; DynamicQuantizeMatMul and MultiHeadAttention in QAttention's place 2.25; activation scales
fixed beforehand 2.25, and no nearer; MatMulNBits with 8 bits 0.8 to 1.0, though at cosine 0.9999; the tanh form of gelu
gains nothing. Most of the distance comes from the feed-forward outputs; with those in float32 the mean cosine would
rise from 0.9990 to 0.9996 and a third of the gain be lost.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from export.minilm.adapter import MergedEncoder
from export.minilm.graph import FUSED, GraphBuilder, pool_and_project
from export.minilm.quantise import quantise_columns, quantise_rows
from export.minilm.weights import EncoderShape


def write_graph(encoder: MergedEncoder, shape: EncoderShape, encoder_id: str) -> bytes:
    """The serialised model. The same inputs give the same bytes, on every processor."""
    graph = GraphBuilder()
    graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    states = _embeddings(graph, encoder, shape)
    for layer in range(shape.layers):
        states = _layer(graph, encoder, shape, f"encoder.layer.{layer}", states)
    pool_and_project(graph, encoder, states)
    return graph.model(encoder_id).SerializeToString(deterministic=True)


def _embeddings(graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape) -> str:
    """Word, position and (all zero) segment embeddings, summed and normalised: `[batch, tokens, hidden]`."""
    words = quantise_rows(encoder.weights["embeddings.word_embeddings.weight"])
    steps = graph.node("Gather", [graph.constant("words", words.values), "input_ids"], "word.steps")
    scales = graph.node("Gather", [graph.constant("words.scales", words.scales), "input_ids"], "word.scale")
    word = graph.node("Mul", [graph.node("Cast", [steps], "word.wide", to=TensorProto.FLOAT), scales], "word")
    # There is one segment, so its embedding is added to every position's here and not to every token's at run time.
    positions = encoder.weights["embeddings.position_embeddings.weight"]
    segment = encoder.weights["embeddings.token_type_embeddings.weight"][0]
    table = graph.constant("positions", positions + segment[None, :])
    first = graph.constant("zero", np.array([0], dtype=np.int64))
    tokens = graph.node("Shape", ["input_ids"], "tokens", start=1, end=2)
    used = graph.node("Slice", [table, first, tokens, first], "positions.used")
    return _sum_and_norm(graph, encoder, shape, "embeddings", word, used)


def _layer(graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, block: str, states: str) -> str:
    """One transformer block: states `[batch, tokens, hidden]` in and out."""
    attended = _attention(graph, encoder, shape, f"{block}.attention.self", states)
    mixed = _linear(graph, encoder, f"{block}.attention.output.dense", attended)
    states = _sum_and_norm(graph, encoder, shape, f"{block}.attention.output", mixed, states)
    inner = _linear(graph, encoder, f"{block}.intermediate.dense", states)
    active = graph.node("Gelu", [inner], f"{block}.intermediate", domain=FUSED)
    outer = _linear(graph, encoder, f"{block}.output.dense", active)
    return _sum_and_norm(graph, encoder, shape, f"{block}.output", outer, states)


def _attention(graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, name: str, states: str) -> str:
    projections = [f"{name}.{part}" for part in ("query", "key", "value")]
    weight = quantise_columns(np.concatenate([encoder.weights[f"{part}.weight"].T for part in projections], axis=1))
    bias = np.concatenate([encoder.weights[f"{part}.bias"] for part in projections])
    steps, scale, zero_point = graph.node_with_outputs(
        "DynamicQuantizeLinear", [states], [f"{name}.{part}" for part in ("input", "input.scale", "input.zero_point")]
    )
    inputs = [
        steps,
        graph.constant(f"{name}.weight", weight.values),
        graph.constant(f"{name}.bias", bias),
        scale,
        graph.constant(f"{name}.weight.scales", weight.scales),
        "mask",
        zero_point,
    ]
    return graph.node("QAttention", inputs, name, domain=FUSED, num_heads=shape.heads)


def _linear(graph: GraphBuilder, encoder: MergedEncoder, name: str, inputs: str) -> str:
    weight = quantise_columns(encoder.weights[f"{name}.weight"].T)
    return graph.node(
        "DynamicQuantizeMatMul",
        [
            inputs,
            graph.constant(f"{name}.weight", weight.values),
            graph.constant(f"{name}.weight.scales", weight.scales),
            # The weights' zero point: absent, as it is 0.
            "",
            graph.constant(f"{name}.bias", encoder.weights[f"{name}.bias"]),
        ],
        name,
        domain=FUSED,
    )


def _sum_and_norm(
    graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, name: str, inputs: str, residual: str
) -> str:
    """Layer normalisation of the sum."""
    # Sum and not Add: ONNX Runtime would fuse an Add with what follows into SkipLayerNormalization, which takes several
    # times as long on the CPU as the two do.
    total = graph.node("Sum", [inputs, residual], f"{name}.sum")
    scale = graph.constant(f"{name}.LayerNorm.weight", encoder.weights[f"{name}.LayerNorm.weight"])
    bias = graph.constant(f"{name}.LayerNorm.bias", encoder.weights[f"{name}.LayerNorm.bias"])
    return graph.node(
        "LayerNormalization", [total, scale, bias], f"{name}.states", axis=-1, epsilon=shape.layer_norm_epsilon
    )
