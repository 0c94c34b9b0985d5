"""Compares an epoch with PyTorch (same network, batch and data, one CPU thread), and a search on two cores with one.

Both sides alternate. The fastest epoch of each counts, in CPU time, because other load can only add time. PyTorch uses the
faster of its fused and its foreach Adam. Writes bench-results/trainer.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
os.environ.update(ONE_THREAD)

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
DIMENSION, GENRES = 512, 20
# The reference system's network with two of its batch sizes, and the network of the default preset.
CASES = [
    {"units": 310, "batch": 64, "activation": "sigmoid"},
    {"units": 510, "batch": 128, "activation": "sigmoid"},
    {"units": 512, "batch": 128, "activation": "relu", "dropout": 0.5, "input_dropout": 0.2, "weight_decay": 0.01},
]


def load(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = np.fromfile(folder / f"{part}.x", dtype="<f4").reshape(-1, DIMENSION)
    targets = np.fromfile(folder / f"{part}.y", dtype="<f4").reshape(-1, GENRES)
    return torch.from_numpy(inputs), torch.from_numpy(targets)


class PyTorch:
    """A network with its optimiser, which trains epoch by epoch."""

    def __init__(self, case: dict, folder: Path, fused: bool) -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Dropout(case["input_dropout"])] if case.get("input_dropout") else []
        layers += [nn.Linear(DIMENSION, case["units"]), {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[case["activation"]]()]
        layers += [nn.Dropout(case["dropout"])] if case.get("dropout") else []
        self.network = nn.Sequential(*layers, nn.Linear(case["units"], GENRES))
        decay = case.get("weight_decay", 0.0)
        kind = torch.optim.AdamW if decay else torch.optim.Adam
        how = {"fused": True} if fused else {"foreach": True}
        self.optimiser = kind(self.network.parameters(), lr=1e-3, weight_decay=decay, **how)
        self.loss = nn.BCEWithLogitsLoss()
        self.batch = case["batch"]
        self.train, self.validation = load(folder, "train"), load(folder, "validation")

    def epoch(self) -> float:
        begin = time.thread_time()
        inputs, targets = self.train
        self.network.train()
        order = torch.randperm(len(inputs))
        for rows in order.split(self.batch):
            self.optimiser.zero_grad(set_to_none=True)
            loss = self.loss(self.network(inputs[rows]), targets[rows])
            loss.backward()
            self.optimiser.step()
        self.network.eval()
        with torch.no_grad():
            inputs, targets = self.validation
            float(self.loss(self.network(inputs), targets))
        return time.thread_time() - begin


def ours(bench: Path, vectors: Path, case: dict, epochs: int) -> list[float]:
    options = [word for name, value in case.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [bench, "epochs", vectors, *options, "--epochs", str(epochs)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(line) for line in text.split()]


def compare(bench: Path, vectors: Path, folder: Path, case: dict, turns: int, epochs: int) -> tuple[float, float]:
    contenders = [PyTorch(case, folder, fused) for fused in (True, False)]
    theirs, own = [], []
    for _ in range(turns):
        own += ours(bench, vectors, case, epochs)
        for contender in contenders:
            theirs += [contender.epoch() for _ in range(epochs)]
    return min(own), min(theirs)


def search(trainer: Path, vectors: Path, threads: int, trials: int, epochs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [trainer, "search", "--vectors", vectors, "--output", folder]
        command += ["--trials", str(trials), "--epochs", str(epochs), "--threads", str(threads)]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True, help="the built benchmark `epoch`")
    parser.add_argument("--trainer", type=Path, required=True, help="the built `trainer`")
    parser.add_argument("--vectors", type=Path, help="a table of 512-vectors; default: made-up vectors")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="of each turn")
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--search-epochs", type=int, default=12, help="largest number of epochs of each trial")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "trainer.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as work:
        vectors = arguments.vectors or Path(work) / "vectors.parquet"
        if arguments.vectors is None:
            subprocess.run([arguments.bench, "synthetic", vectors], check=True)
        raw = Path(work) / "raw"
        subprocess.run([arguments.bench, "raw", vectors, raw], check=True)
        results: dict[str, float | str] = {}
        ratios = []
        for case in CASES:
            own, theirs = compare(arguments.bench, vectors, raw, case, arguments.turns, arguments.epochs)
            name = f"{case['activation']}_{case['units']}_batch_{case['batch']}"
            results |= {f"{name}_seconds": own, f"{name}_pytorch_seconds": theirs, f"{name}_ratio": own / theirs}
            ratios.append(own / theirs)
            print(f"{name}: {own:.3f} s an epoch, PyTorch {theirs:.3f} s, ratio {own / theirs:.2f}", file=sys.stderr)
        # The worst case.
        results = {"epoch_over_pytorch": max(ratios), **results, "pytorch": torch.__version__}
        one = search(arguments.trainer, vectors, 1, arguments.trials, arguments.search_epochs)
        two = search(arguments.trainer, vectors, 2, arguments.trials, arguments.search_epochs)
        results |= {"search_one_core_seconds": one, "search_two_cores_seconds": two}
        results["search_two_cores_over_one"] = two / one
        print(f"search of {arguments.trials} trials: {one:.1f} s on one core, {two:.1f} s on two, ratio {two / one:.3f}",
              file=sys.stderr)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
