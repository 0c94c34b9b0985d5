"""Times one text in the fused graph and in the plain one, alternating, on one thread.

Read the ratio: both graphs run in the same minute on the same machine, so other load affects both.

    PYTHONPATH=encoder-svc .runtime/venv/bin/python -m export.tools.bench_graphs
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import onnxruntime

from export.minilm import forward
from export.minilm.adapter import load_adapter
from export.minilm.build import open_session, run_session
from export.minilm.graph import write_graph
from export.minilm.weights import find_model_folder, load_shape, load_weights
from export.tools.plain_graph import write_plain_graph


def milliseconds(session: onnxruntime.InferenceSession, ids: list[int]) -> float:
    """Returns the CPU time of one run, which excludes time spent waiting for a core."""
    started = time.thread_time()
    run_session(session, [ids])
    return (time.thread_time() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, metavar="N", help="rounds of each graph; default: 60")
    rounds: int = parser.parse_args().rounds
    folder = find_model_folder()
    shape = load_shape(folder / "config.json")
    encoder = load_adapter(None, load_weights(folder / "model.safetensors", shape), shape.hidden)
    sessions = {
        "fused": open_session(write_graph(encoder, shape, "fused")),
        "plain": open_session(write_plain_graph(encoder, shape)),
    }
    for tokens in (20, 60, 100, 256):
        ids = [101] + [2000 + 7 * position for position in range(tokens - 2)] + [102]
        expected = forward.embed(encoder, shape, ids)
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(rounds):
            for name, session in sessions.items():
                # Three runs in a row: after the first, the caches hold this graph's weights, as in the service.
                times[name] += [milliseconds(session, ids) for _ in range(3)]
        medians = {name: statistics.median(values) for name, values in times.items()}
        differences = {
            name: float(np.abs(run_session(session, [ids])[0] - expected).max()) for name, session in sessions.items()
        }
        print(
            f"{tokens:3} tokens: fused {medians['fused']:.2f} ms, plain {medians['plain']:.2f} ms, "
            f"plain/fused {medians['plain'] / medians['fused']:.3f}; largest difference from float64: "
            f"fused {differences['fused']:.1e}, plain {differences['plain']:.1e}"
        )


if __name__ == "__main__":
    main()
