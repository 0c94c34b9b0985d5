"""Encodes real overviews in fp32 and int8 and compares vectors and speed.

Each text runs alone on one thread, as in the service. The graphs alternate text by text, so other load affects both.
The time of a text is the least CPU time of its rounds.

examples:
  export PYTHONPATH=encoder-svc
  .runtime/venv/bin/python -m export.tools.compare_precision ../shared/data/movies_metadata.csv
  .runtime/venv/bin/python -m export.tools.compare_precision MOVIES.csv --adapter FILE --texts 1000 --turns 0
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.bootstrap import trained_adapter
from export.minilm import forward
from export.minilm.adapter import load_adapter
from export.minilm.build import GRAPH_WRITERS, open_session, run_session
from export.minilm.weights import find_model_folder, load_shape, load_weights
from export.minilm.wordpiece import tokenize, without_limits
from export.precision import DEFAULT_BUNDLE, Precision

MAX_TOKENS = 256
# Overviews are short. The limit is raised for one record with broken quotes.
LARGEST_FIELD = 1 << 24

Ids = list[list[int]]
Vectors = NDArray[np.float64]


def overviews(path: Path, count: int) -> list[str]:
    """Returns `count` overviews of Kaggle's movies_metadata.csv, evenly spaced because the file is sorted by popularity."""
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["overview"] for row in csv.DictReader(file) if (row["overview"] or "").strip()]
    return [texts[position * len(texts) // count] for position in range(min(count, len(texts)))]


def encode(session: onnxruntime.InferenceSession, texts: Ids) -> Vectors:
    """Returns the vectors `[texts, 512]`."""
    return np.array([run_session(session, [ids])[0] for ids in texts], dtype=np.float64)


def cosines(left: Vectors, right: Vectors) -> Vectors:
    """Returns the cosine of each row of `a` with the same row of `b`: `[texts]`."""
    return (left * right).sum(axis=1) / np.sqrt((left * left).sum(axis=1) * (right * right).sum(axis=1))


def summary(values: Vectors) -> str:
    return f"min {values.min():.4f}, 1st percentile {np.percentile(values, 1):.4f}, mean {values.mean():.5f}"


def seconds(sessions: dict[Precision, onnxruntime.InferenceSession], texts: Ids, turns: int) -> dict[Precision, float]:
    """Returns the CPU time of all texts, each at the best of its rounds."""
    totals = dict.fromkeys(sessions, 0.0)
    for ids in texts:
        least = dict.fromkeys(sessions, float("inf"))
        for _ in range(turns):
            for precision, session in sessions.items():
                # Two runs, of which the second counts: by then the caches hold this graph's weights, as in the service.
                run_session(session, [ids])
                started = time.thread_time()
                run_session(session, [ids])
                least[precision] = min(least[precision], time.thread_time() - started)
        for precision in sessions:
            totals[precision] += least[precision]
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="movies_metadata.csv")
    parser.add_argument("--texts", type=int, default=300, metavar="N", help="default: 300")
    parser.add_argument("--turns", type=int, default=2, metavar="N", help="rounds of each graph; 0 skips the timing; default: 2")
    parser.add_argument(
        "--adapter",
        type=Path,
        default=trained_adapter(DEFAULT_BUNDLE),
        metavar="FILE",
        help="default: the repository's adapter, if it exists",
    )
    arguments = parser.parse_args()
    folder = find_model_folder()
    shape = load_shape(folder / "config.json")
    encoder = load_adapter(arguments.adapter, load_weights(folder / "model.safetensors", shape), shape.hidden)
    shape = encoder.shape(shape)
    tokenizer = Tokenizer.from_str(without_limits(folder / "tokenizer.json").decode())
    texts = [tokenize(tokenizer, text, MAX_TOKENS).ids for text in overviews(arguments.csv, arguments.texts)]
    sessions = {precision: open_session(write(encoder, shape, "graph")) for precision, write in GRAPH_WRITERS.items()}
    lengths = sorted(len(ids) for ids in texts)
    middle = lengths[len(texts) // 2]
    print(f"{encoder.version}, {len(texts)} texts, {lengths[0]} to {lengths[-1]} tokens, {middle} median")
    vectors = {precision: encode(session, texts) for precision, session in sessions.items()}
    print(f"cosine of int8 to fp32: {summary(cosines(vectors[Precision.INT8], vectors[Precision.FP32]))}")
    neighbours = cosines(vectors[Precision.FP32][1:], vectors[Precision.FP32][:-1])
    print(f"cosine of two different texts in fp32: mean {neighbours.mean():.3f}")
    few = np.array([forward.embed(encoder, shape, ids) for ids in texts[:10]])
    for precision, found in vectors.items():
        print(f"cosine of {precision} to float64, {len(few)} texts: min {cosines(found[: len(few)], few).min():.7f}")
    if arguments.turns:
        totals = seconds(sessions, texts, arguments.turns)
        for precision, total in totals.items():
            ratio = totals[Precision.FP32] / total
            print(f"{precision}: {len(texts) / total:.1f} texts/s a core, {ratio:.2f} times fp32")


if __name__ == "__main__":
    main()
