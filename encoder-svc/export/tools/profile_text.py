"""Takes the time of one text apart: by ONNX Runtime's operators, and against its matrix products alone.

The products alone are a graph of nothing but MatMulInteger nodes of the same shapes, each with weights of its own, so that
weights come from the same level of the caches as in the encoder. Times are the 10th percentile of many runs on one thread,
which other load disturbs least; those of whole graphs are CPU times.

    PYTHONPATH=encoder-svc .runtime/venv/bin/python -m export.tools.profile_text .runtime/bundles/minilm-512
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from export.bundle import MODEL
from export.minilm.weights import EncoderShape, find_model_folder, load_shape

LENGTHS = (16, 64, 128)
# Runs that warm up caches and arenas.
WARM_UP = 10

Feed = dict[str, np.ndarray]


def open_session(model: bytes | str, profile: str | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def products(shape: EncoderShape) -> dict[str, tuple[int, int]]:
    """The matrices `[in, out]` of a block."""
    hidden, feed_forward = shape.hidden, shape.feed_forward
    return {
        "attention": (hidden, 3 * hidden),
        "attention output": (hidden, hidden),
        "up": (hidden, feed_forward),
        "down": (feed_forward, hidden),
    }


def only_products(shape: EncoderShape) -> bytes:
    """A graph of the int8 products of all blocks, on inputs named by their width."""
    random = np.random.default_rng(0)
    nodes, weights, outputs = [], [], []
    for layer in range(shape.layers):
        for name, (rows, columns) in products(shape).items():
            weight, output = f"{layer}.{name}.weight", f"{layer}.{name}"
            values = random.integers(-64, 64, (rows, columns)).astype(np.int8)
            weights.append(helper.make_tensor(weight, TensorProto.INT8, values.shape, values.tobytes(), raw=True))
            nodes.append(helper.make_node("MatMulInteger", [str(rows), weight], [output]))
            outputs.append(helper.make_tensor_value_info(output, TensorProto.INT32, ["tokens", columns]))
    widths = {rows for rows, _ in products(shape).values()}
    inputs = [helper.make_tensor_value_info(str(width), TensorProto.UINT8, ["tokens", width]) for width in widths]
    graph = helper.make_graph(nodes, "products", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def text_of(tokens: int) -> Feed:
    ids = np.array([[101] + [2000 + 7 * position for position in range(tokens - 2)] + [102]], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def milliseconds(session: onnxruntime.InferenceSession, feed: Feed, runs: int) -> float:
    """Returns the CPU time of a run. Inputs and outputs are bound, so that Python copies none of them."""
    binding = session.io_binding()
    for name, values in feed.items():
        binding.bind_cpu_input(name, values)
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    times = []
    for _ in range(WARM_UP + runs):
        started = time.thread_time()
        session.run_with_iobinding(binding)
        times.append(time.thread_time() - started)
    return float(np.percentile(times[WARM_UP:], 10)) * 1e3


def by_operator(model: str, feed: Feed, runs: int) -> dict[str, float]:
    """Returns the microseconds of each operator's nodes together, the largest first."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, f"{folder}/profile")
        for _ in range(WARM_UP + runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"])
    operators: dict[str, float] = defaultdict(float)
    for (operator, _), times in nodes.items():
        operators[operator] += float(np.percentile(times[WARM_UP:], 10))
    return dict(sorted(operators.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="an int8 bundle of MiniLM")
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="runs of each graph; default: 100")
    arguments = parser.parse_args()
    model = str(arguments.bundle / MODEL)
    shape = load_shape(find_model_folder() / "config.json")
    whole, alone = open_session(model), open_session(only_products(shape))
    multiplications = shape.layers * sum(rows * columns for rows, columns in products(shape).values())
    random = np.random.default_rng(0)
    for tokens in LENGTHS:
        text = milliseconds(whole, text_of(tokens), arguments.runs)
        widths = {rows for rows, _ in products(shape).values()}
        inputs = {str(width): random.integers(0, 255, (tokens, width)).astype(np.uint8) for width in widths}
        multiplied = milliseconds(alone, inputs, arguments.runs)
        rate = tokens * multiplications / multiplied / 1e6
        print(
            f"{tokens} tokens: {text:.2f} ms; products alone {multiplied:.2f} ms, {multiplied / text:.0%}, "
            f"{rate:.0f} billion multiplications/s"
        )
        operators = by_operator(model, text_of(tokens), arguments.runs)
        total = sum(operators.values())
        for operator, microseconds in operators.items():
            print(f"  {operator:24} {microseconds:8.0f} us {microseconds / total:6.1%}")


if __name__ == "__main__":
    main()
