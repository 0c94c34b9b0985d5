"""Trains and serves models of label sets that are not TMDB's, from tables of invented texts."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from conftest import BINARIES, ROOT, Services, free_port, start, stop, wait_until_serving

# A bundle of the tests: its encoder takes a moment for a thousand texts.
BUNDLE = "encoder-svc/tests/fixtures/tiny-512"
THREE = ("Outage", "Billing", "Feature request")
LABELS_FILE = """[[labels]]
name = "Outage"
aliases = ["Incident"]

[[labels]]
name = "Billing"
ids = [1]

[[labels]]
name = "Feature request"
"""
TEXTS = (
    "The server is down. Nobody can log in.",
    "The invoice charges the card twice. Please refund it.",
    "Please add a dark theme. It would help at night.",
)
# Words that learners see only in texts of one topic.
MANY = tuple(f"Topic {number:03}" for number in range(300))


def write_tickets(path: Path) -> None:
    """Writes support tickets in three topics. Each is written by its name in lowercase."""
    rows = ["id,title,overview,genres"]
    rows += [f'{n},Ticket {n},"{TEXTS[n % 3]} Number {n}.",{THREE[n % 3].lower()}' for n in range(1, 241)]
    path.write_text("\n".join(rows) + "\n")


def write_topics(path: Path) -> None:
    """Writes eight different short texts for each of three hundred topics."""
    rows = ["id,title,overview,genres"]
    rows += [f"{n},,Note {n} about subject{n % 300} in the archive.,{MANY[n % 300]}" for n in range(1, 2401)]
    path.write_text("\n".join(rows) + "\n")


def trainer(*arguments: str | Path) -> str:
    result = subprocess.run(
        [BINARIES / "trainer", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def train(folder: Path, table: Path, encoder: str, *labels: str) -> Path:
    """Turns a table of texts into a model file."""
    movies, vectors, model = (folder / name for name in ("movies.parquet", "vectors.parquet", "model.safetensors"))
    trainer("prepare", "--input", table, "--genres-format", "pipe", "--labels", *labels, "--output", movies)
    trainer("encode", "--movies", movies, "--output", vectors, "--encoder", f"http://{encoder}")
    small = ("--units", "16", "--epochs", "5", "--ensemble", "1")
    trainer("fit", "--vectors", vectors, "--output", model, *small)
    return model


@contextlib.contextmanager
def served(model: Path, encoder: str) -> Iterator[Services]:
    """Serves a model with that encoder."""
    classifier, rest = (f"127.0.0.1:{free_port()}" for _ in range(2))
    listeners = ("--listen", classifier, "--rest-listen", rest)
    process = start("classifier-svc", "serve", *listeners, "--model", str(model), "--encoder", f"http://{encoder}")
    try:
        wait_until_serving(classifier, process)
        yield Services(encoder, classifier, f"http://{rest}")
    finally:
        stop(process)
