"""Measures the peak memory (VmHWM) of `prepare` and `fit` for a million made-up movies. Needs 4 GB of temporary disk space.

`fit` gets `--fit-movies` vectors. It holds them all in memory, 2 KB per movie, with a copy in training order.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

GENRES = [(18, "Drama"), (35, "Comedy"), (53, "Thriller"), (10749, "Romance"), (28, "Action"), (10752, "War")]
WORDS = "a the pilot storm city love war night secret road family doctor ship winter letter stranger returns hunts".split()


def write_movies(path: Path, rows: int) -> None:
    chance = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        file.write("adult,genres,id,original_language,overview,title\n")
        for number in range(1, rows + 1):
            genres = [{"id": key, "name": name} for key, name in chance.sample(GENRES, chance.randint(1, 3))]
            overview = " ".join(chance.choices(WORDS, k=50))
            file.write(f'False,"{genres}",{number},en,"{overview}.",Movie {number}\n')


def peak(command: list[str | Path]) -> tuple[float, float]:
    """Runs a command and returns its peak memory in MB and its duration in seconds."""
    begin, highest = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
        highest = max([highest, *(int(line.split()[1]) for line in lines)])
        time.sleep(0.02)
    assert process.wait() == 0, command
    return highest / 1024, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True, help="the built benchmark `epoch`")
    parser.add_argument("--trainer", type=Path, required=True, help="the built `trainer`")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--fit-movies", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        movies, vectors = Path(folder) / "movies.csv", Path(folder) / "vectors.parquet"
        write_movies(movies, arguments.rows)
        size = movies.stat().st_size / 2**20
        prepare = [arguments.trainer, "prepare", "--input", movies, "--output", Path(folder) / "movies.parquet"]
        megabytes, seconds = peak(prepare)
        results = {"rows": arguments.rows, "csv_mib": size, "prepare_mib": megabytes, "prepare_seconds": seconds}
        print(json.dumps(results), flush=True)
        movies.unlink()
        subprocess.run([arguments.bench, "synthetic", vectors, "--movies", str(arguments.fit_movies)], check=True)
        fit = [arguments.trainer, "fit", "--vectors", vectors, "--output", Path(folder) / "m.safetensors"]
        megabytes, seconds = peak([*fit, "--preset", "reference", "--epochs", "1"])
        results |= {"fit_movies": arguments.fit_movies, "fit_mib": megabytes, "fit_seconds": seconds}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
