"""Compares the throughput that Triton's perf_analyzer measures with that of the load generator: the same texts, in turns.

    BINARIES=target/release .runtime/perf-analyzer-venv/bin/python tests/protocols/compare_perf_analyzer.py

`PERF_ANALYZER` is another command to run. The package needs glibc 2.38 or newer; where it does not start, nothing is measured.
Both keep 32 bulk calls of one text in flight: perf_analyzer as `ModelInfer` or, with PROTOCOL=openai, to `/v1/embeddings`, and
the load generator as `Encode`. Prints the median of the ratios of neighbouring rounds, and exits with 1 unless they agree within 10 %.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import BINARIES, ROOT, free_port, start, stop, wait_until_serving  # noqa: E402

MODEL = "minilm-512"
CONCURRENCY = 32
WORDS = "a pilot hunts the smuggler who burned her harbour and storms home".split()
WITHIN = 0.10
# How often perf_analyzer sends each text. It divides by whole seconds, so a short run is measured too coarsely.
REPEATS = 5
PROGRAM = shlex.split(os.environ.get("PERF_ANALYZER", str(Path(sys.executable).parent / "perf_analyzer")))


def texts(count: int) -> list[str]:
    """Distinct texts of 20 to 100 words."""
    return [" ".join([str(i), *(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(20 + i * 37 % 81))]) for i in range(count)]


def inputs(protocol: str, count: int) -> list[dict[str, object]]:
    """The requests in the form of perf_analyzer."""
    if protocol == "openai":
        return [{"payload": [{"model": MODEL, "input": text, "priority": "bulk"}]} for text in texts(count)]
    return [{"TEXT": [text]} for text in texts(count)]


def perf_analyzer(address: str, protocol: str, data: Path, count: int, folder: Path) -> float:
    """Returns texts per second."""
    report = folder / "report.csv"
    command = [*PROGRAM, "-m", MODEL, "-u", address, "--async", "--input-data", str(data), "-f", str(report)]
    command += ["--concurrency-range", str(CONCURRENCY), "--warmup-request-count", "64", "--request-count", str(REPEATS * count)]
    if protocol == "openai":
        command += ["--service-kind", "openai", "--endpoint", "v1/embeddings"]
    else:
        command += ["-i", "grpc", "--shape", "TEXT:1", "--request-parameter", "priority:2:int"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise SystemExit(f"perf_analyzer failed:\n{done.stdout}{done.stderr}")
    with report.open(encoding="utf-8") as lines:
        return float(next(csv.DictReader(lines))["Inferences/Second"])


def error_at_start() -> str:
    """Returns what keeps perf_analyzer from starting, or an empty string."""
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr.strip()


def load_generator(table: Path, count: int, folder: Path) -> float:
    """Returns texts per second through 32 concurrent unary calls."""
    report = folder / "report.json"
    command = [BINARIES / "load-generator", "--quick", "--rounds", "1", "--data", table, "--texts", str(count)]
    command += ["--encoder-svc", BINARIES / "encoder-svc", "--output", report]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=300, check=True)
    figures = json.loads(report.read_text(encoding="utf-8"))
    return figures["raw_texts_per_second"] * figures["bulk_unary_ratio"]


def main() -> int:
    rounds, count = int(os.environ.get("ROUNDS", "3")), int(os.environ.get("TEXTS", "600"))
    protocol = os.environ.get("PROTOCOL", "grpc")
    if error := error_at_start():
        print(f"skipped, because perf_analyzer does not start here: {error}")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data, table = folder / "texts.json", folder / "texts.csv"
        data.write_text(json.dumps({"data": inputs(protocol, count)}), encoding="utf-8")
        table.write_text("overview\n" + "".join(f"{text}\n" for text in texts(count)), encoding="utf-8")
        ratios = []
        for _ in range(rounds):
            grpc, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
            process = start("encoder-svc", "serve", "--listen", grpc, "--http-listen", http)
            try:
                wait_until_serving(grpc, process)
                found = perf_analyzer(grpc if protocol == "grpc" else http, protocol, data, count, folder)
            finally:
                stop(process)
            expected = load_generator(table, count, folder)
            ratios.append(found / expected)
            print(f"perf_analyzer ({protocol}) {found:.1f} texts/s, load generator {expected:.1f}: {ratios[-1]:.3f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"perf_analyzer / load generator: {ratio:.3f} (median)")
    return 0 if abs(ratio - 1) <= WITHIN else 1


if __name__ == "__main__":
    sys.exit(main())
