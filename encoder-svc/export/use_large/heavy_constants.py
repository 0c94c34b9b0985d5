"""Keeps large weights out of a graph during its conversion.

tf2onnx copies all constants in every pass of its optimiser, so 600 MB of embeddings would need tens of gigabytes. Large
constants become inputs during the conversion, and constants again afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper

LEAST_BYTES = 8 << 20


@dataclass(frozen=True)
class LightGraph:
    """A graph with inputs instead of large constants, and these constants by tensor name."""

    graph_def: tf.compat.v1.GraphDef
    constants: dict[str, np.ndarray]


def set_aside(graph_def: tf.compat.v1.GraphDef, least_bytes: int | None = None) -> LightGraph:
    """Replaces the constants of `graph_def` that have `least_bytes` or more with inputs."""
    least = LEAST_BYTES if least_bytes is None else least_bytes
    light = tf.compat.v1.GraphDef(versions=graph_def.versions)
    constants = {}
    for node in graph_def.node:
        if node.op == "Const" and node.ByteSize() >= least and _is_float(node):
            value = tf.make_ndarray(node.attr["value"].tensor)
            constants[f"{node.name}:0"] = value
            placeholder = light.node.add(name=node.name, op="Placeholder")
            placeholder.attr["dtype"].CopyFrom(node.attr["dtype"])
            placeholder.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
        else:
            light.node.add().CopyFrom(node)
    return LightGraph(light, constants)


def put_back(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> None:
    """Turns the inputs named in `constants` back into constants."""
    inputs = [value for value in model.graph.input if value.name not in constants]
    used = {name for node in model.graph.node for name in node.input}
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items() if name in used
    )


def _is_float(node: Any) -> bool:
    return node.attr["dtype"].type == tf.float32.as_datatype_enum
