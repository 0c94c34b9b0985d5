"""Writes the encoder as an ONNX graph that multiplies in int8. Inputs and output are those of `graph`.

Every linear layer of the blocks has int8 weights with one scale per output (quantise.py) and uint8 activations. Their
scale and zero point come from the tensor's smallest and largest value at run time (ONNX's DynamicQuantizeLinear). The
word table is also int8, with one scale per word, which quarters the file. Attention's inner products, softmax, gelu,
normalisation, pooling and the projection stay in float32.

An activation scale spans the whole tensor. The service runs each text alone, so a text's vector depends on that text
only. In a batch it would depend on the other texts, so this graph is for CPUs, which run one text at a time.

tools/compare_precision.py measures speed and cosine against the float32 graph. These alternatives were tried and were
not better (AVX-512 VNNI): DynamicQuantizeMatMul with MultiHeadAttention instead of QAttention, fixed activation scales,
and the tanh form of gelu are no faster. MatMulNBits with 8 bits is closer but as slow as float32. Most of the distance
comes from the feed-forward outputs; float32 there would lose a third of the speed gained.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from export.minilm.adapter import MergedEncoder
from export.minilm.graph import FUSED, GraphBuilder, pool_and_project
from export.minilm.quantise import quantise_columns, quantise_rows
from export.minilm.weights import EncoderShape


def write_graph(encoder: MergedEncoder, shape: EncoderShape, encoder_id: str) -> bytes:
    """Returns the serialised model. The same inputs give the same bytes on every processor."""
    graph = GraphBuilder()
    graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    states = _embeddings(graph, encoder, shape)
    for layer in range(shape.layers):
        states = _layer(graph, encoder, shape, f"encoder.layer.{layer}", states)
    pool_and_project(graph, encoder, states)
    return graph.model(encoder_id).SerializeToString(deterministic=True)


def _embeddings(graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape) -> str:
    """Adds the normalised sum of word, position and segment embeddings, `[batch, tokens, hidden]`."""
    words = quantise_rows(encoder.weights["embeddings.word_embeddings.weight"])
    steps = graph.node("Gather", [graph.constant("words", words.values), "input_ids"], "word.steps")
    scales = graph.node("Gather", [graph.constant("words.scales", words.scales), "input_ids"], "word.scale")
    word = graph.node("Mul", [graph.node("Cast", [steps], "word.wide", to=TensorProto.FLOAT), scales], "word")
    # There is one segment, so its embedding is added to each position's here, not to each token's at run time.
    positions = encoder.weights["embeddings.position_embeddings.weight"]
    segment = encoder.weights["embeddings.token_type_embeddings.weight"][0]
    table = graph.constant("positions", positions + segment[None, :])
    first = graph.constant("zero", np.array([0], dtype=np.int64))
    tokens = graph.node("Shape", ["input_ids"], "tokens", start=1, end=2)
    used = graph.node("Slice", [table, first, tokens, first], "positions.used")
    return _sum_and_norm(graph, encoder, shape, "embeddings", word, used)


def _layer(graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, block: str, states: str) -> str:
    """Adds one transformer block, from states to states `[batch, tokens, hidden]`."""
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
            # No zero point of the weights, because it is 0.
            "",
            graph.constant(f"{name}.bias", encoder.weights[f"{name}.bias"]),
        ],
        name,
        domain=FUSED,
    )


def _sum_and_norm(
    graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, name: str, inputs: str, residual: str
) -> str:
    """Adds the layer normalisation of the sum."""
    # Sum instead of Add, because ONNX Runtime would fuse an Add with what follows into SkipLayerNormalization, which is
    # several times slower on the CPU than the two operators.
    total = graph.node("Sum", [inputs, residual], f"{name}.sum")
    scale = graph.constant(f"{name}.LayerNorm.weight", encoder.weights[f"{name}.LayerNorm.weight"])
    bias = graph.constant(f"{name}.LayerNorm.bias", encoder.weights[f"{name}.LayerNorm.bias"])
    return graph.node(
        "LayerNormalization", [total, scale, bias], f"{name}.states", axis=-1, epsilon=shape.layer_norm_epsilon
    )
