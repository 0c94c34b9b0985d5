"""Writes the encoder as one ONNX graph from token ids and mask to the final 512-vector.

Inputs  `input_ids` and `attention_mask`: int64 `[batch, tokens]`, the mask 1 on tokens and 0 on padding.
Output  `embedding`: float32 `[batch, 512]`, each row of length 1, or through tanh if the adapter says so.

The graph uses opset 17 and ONNX Runtime's fused operators Attention and Gelu (domain com.microsoft,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). They are written directly: an optimizer's
output may change with its release, and the bytes are hashed. Both are exact in float32; Gelu is the erf form.

tools/bench_graphs.py measures the choice of operators. Gemm on flat `[batch * tokens, hidden]` states adds the bias and
is faster than MatMul. SkipLayerNormalization is slower on the CPU than the Add and LayerNormalization that it fuses.
BiasGelu is not needed, because Gemm has already added the bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from export.minilm import lift
from export.minilm.adapter import MergedEncoder
from export.minilm.weights import EncoderShape

OPSET = 17
# The oldest IR version with opset 17. Every ONNX Runtime that the service accepts can read it.
IR_VERSION = 8
FUSED = "com.microsoft"
KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int8": TensorProto.INT8}


class GraphBuilder:
    """Collects nodes and constants in the order of the calls, which makes the file's bytes reproducible."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output, named after it, and returns that name."""
        self.nodes.append(
            helper.make_node(operator, inputs, [output], name=f"{output}.{operator}", domain=domain, **attributes)
        )
        return output

    def node_with_outputs(self, operator: str, inputs: list[str], outputs: list[str]) -> list[str]:
        """Adds a node with several outputs, named after the first, and returns their names."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=f"{outputs[0]}.{operator}"))
        return outputs

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Adds a tensor of float32, int64 or int8 as little-endian bytes and returns its name."""
        kind = KINDS[values.dtype.name]
        little_endian = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
        self.constants.append(helper.make_tensor(name, kind, values.shape, little_endian.tobytes(), raw=True))
        return name

    def model(self, encoder_id: str) -> ModelProto:
        """Returns the finished model."""
        graph = helper.make_graph(
            self.nodes,
            encoder_id,
            inputs=[
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"]),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "tokens"]),
            ],
            outputs=[helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", lift.DIMENSION])],
            initializer=self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, producer_name="encoder-export", opset_imports=opsets, ir_version=IR_VERSION)


def write_graph(encoder: MergedEncoder, shape: EncoderShape, encoder_id: str) -> bytes:
    """Returns the serialised model. The same inputs give the same bytes on every processor."""
    graph = GraphBuilder()
    # The fused operators take 32-bit ids. Vocabulary and lengths are far below 2^31.
    ids = graph.node("Cast", ["input_ids"], "ids", to=TensorProto.INT32)
    graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    _shapes(graph, shape)
    states = _flat(graph, _embeddings(graph, encoder, shape, ids))
    for layer in range(shape.layers):
        states = _layer(graph, encoder, shape, f"encoder.layer.{layer}", states)
    pool_and_project(graph, encoder, _by_text(graph, states))
    return graph.model(encoder_id).SerializeToString(deterministic=True)


def _shapes(graph: GraphBuilder, shape: EncoderShape) -> None:
    """The two shapes of states: flat `[batch * tokens, hidden]` and by text `[batch, tokens, hidden]`."""
    graph.constant("shape.flat", np.array([-1, shape.hidden], dtype=np.int64))
    sizes = graph.node("Shape", ["input_ids"], "shape.batch_tokens")
    hidden = graph.constant("shape.hidden", np.array([shape.hidden], dtype=np.int64))
    graph.node("Concat", [sizes, hidden], "shape.by_text", axis=0)


def _flat(graph: GraphBuilder, states: str) -> str:
    return graph.node("Reshape", [states, "shape.flat"], f"{states}.flat")


def _by_text(graph: GraphBuilder, states: str) -> str:
    return graph.node("Reshape", [states, "shape.by_text"], f"{states}.by_text")


def _linear(graph: GraphBuilder, encoder: MergedEncoder, name: str, inputs: str) -> str:
    weight = graph.constant(f"{name}.weight", encoder.weights[f"{name}.weight"].T)
    return graph.node("Gemm", [inputs, weight, _weight(graph, encoder, f"{name}.bias")], name)


def _weight(graph: GraphBuilder, encoder: MergedEncoder, name: str) -> str:
    return graph.constant(name, encoder.weights[name])


def _embeddings(graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, ids: str) -> str:
    # There is one segment, so its embedding is added to each position's here, not to each token's at run time.
    positions = encoder.weights["embeddings.position_embeddings.weight"]
    segment = encoder.weights["embeddings.token_type_embeddings.weight"][0]
    inputs = [
        ids,
        "",
        _weight(graph, encoder, "embeddings.word_embeddings.weight"),
        graph.constant("embeddings.position_and_segment", positions + segment[None, :]),
        "",
        _weight(graph, encoder, "embeddings.LayerNorm.weight"),
        _weight(graph, encoder, "embeddings.LayerNorm.bias"),
    ]
    # The second output, a mask index, is required but unused, because Attention takes the mask itself.
    graph.nodes.append(
        helper.make_node(
            "EmbedLayerNormalization",
            inputs,
            ["embeddings", "embeddings.mask_index"],
            name="embeddings.EmbedLayerNormalization",
            domain=FUSED,
            epsilon=shape.layer_norm_epsilon,
        )
    )
    return "embeddings"


def _layer(graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, block: str, states: str) -> str:
    """Adds one transformer block, from flat states to flat states."""
    projections = [f"{block}.attention.self.{name}" for name in ("query", "key", "value")]
    weight = np.concatenate([encoder.weights[f"{name}.weight"].T for name in projections], axis=1)
    bias = np.concatenate([encoder.weights[f"{name}.bias"] for name in projections])
    attended = graph.node(
        "Attention",
        [
            _by_text(graph, states),
            graph.constant(f"{block}.attention.self.weight", weight),
            graph.constant(f"{block}.attention.self.bias", bias),
            "mask",
        ],
        f"{block}.attention.self",
        domain=FUSED,
        num_heads=shape.heads,
    )
    states = _add_and_norm(graph, encoder, shape, f"{block}.attention.output", _flat(graph, attended), states)
    inner = _linear(graph, encoder, f"{block}.intermediate.dense", states)
    active = graph.node("Gelu", [inner], f"{block}.intermediate", domain=FUSED)
    return _add_and_norm(graph, encoder, shape, f"{block}.output", active, states)


def _add_and_norm(
    graph: GraphBuilder, encoder: MergedEncoder, shape: EncoderShape, name: str, inputs: str, residual: str
) -> str:
    """Adds a linear layer, the residual and a layer normalisation."""
    total = graph.node("Add", [_linear(graph, encoder, f"{name}.dense", inputs), residual], f"{name}.sum")
    scale = _weight(graph, encoder, f"{name}.LayerNorm.weight")
    bias = _weight(graph, encoder, f"{name}.LayerNorm.bias")
    return graph.node(
        "LayerNormalization", [total, scale, bias], f"{name}.states", axis=-1, epsilon=shape.layer_norm_epsilon
    )


def pool_and_project(graph: GraphBuilder, encoder: MergedEncoder, states: str) -> None:
    """Adds the mean over the mask, the projection to 512 and the activation: `[batch, tokens, hidden]` to `embedding`."""
    keep = graph.node("Cast", ["attention_mask"], "pool.mask", to=TensorProto.FLOAT)
    # [batch, 1, tokens] x [batch, tokens, hidden] sums the unmasked tokens without a masked copy of the states.
    row = graph.node("Unsqueeze", [keep, graph.constant("pool.axis", np.array([1], dtype=np.int64))], "pool.row")
    total = graph.node("MatMul", [row, states], "pool.total")
    sums = graph.node("Squeeze", [total, "pool.axis"], "pool.sums")
    count = graph.node("ReduceSum", [keep, "pool.axis"], "pool.count", keepdims=1)
    mean = graph.node("Div", [sums, count], "pool.mean")
    projected = graph.node(
        "Gemm",
        [mean, graph.constant("projection", encoder.projection), graph.constant("bias", encoder.projection_bias)],
        "projected",
    )
    if encoder.activation == "tanh":
        graph.node("Tanh", [projected], "embedding")
        return
    length = graph.node("ReduceL2", [projected], "length", axes=[1], keepdims=1)
    graph.node("Div", [projected, length], "embedding")
