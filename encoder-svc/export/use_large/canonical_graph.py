"""Puts an ONNX graph into canonical order with canonical names, independent of the converter's numbering.

tf2onnx numbers nodes in an order that changes between runs, but a bundle's hash must depend on the model alone. So nodes
are sorted in the order in which the output needs them, equal constants are merged, and names are assigned again.
"""

from __future__ import annotations

import hashlib

import onnx


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sorts the nodes and constants of `model` and returns it. Inputs and outputs keep their names."""
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        raise ValueError("expected a graph without subgraphs, found one")
    producers = {name: node for node in graph.node for name in node.output if name}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    by_content: dict[bytes, str] = {}
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []

    def add_constant(name: str) -> None:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(constants[name])
        tensor.name = ""
        content = hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()
        if content not in by_content:
            by_content[content] = tensor.name = f"c{len(initializers)}"
            initializers.append(tensor)
        names[name] = by_content[content]

    def add_node(node: onnx.NodeProto) -> None:
        # Empty fields stay unset, even if the converter set them.
        new = onnx.NodeProto(op_type=node.op_type, name=f"n{len(nodes)}")
        if node.domain:
            new.domain = node.domain
        for index, output in enumerate(node.output):
            names.setdefault(output, f"t{len(nodes)}_{index}")
        new.input.extend(names[name] for name in node.input)
        new.output.extend(names[name] for name in node.output)
        new.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        nodes.append(new)

    stack = [(producers[value.name], False) for value in reversed(graph.output)]
    done: set[int] = set()
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            add_node(node)
            continue
        stack.append((node, True))
        for name in node.input:
            if name in constants and name not in names:
                add_constant(name)
        stack += [(producers[name], False) for name in reversed(node.input) if name in producers]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    graph.ClearField("doc_string")
    return model
