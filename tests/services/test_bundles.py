"""Encodes, fits and classifies with the real binaries, for one small bundle of each kind of tokenizer.

The bundles are those of the fixtures. Neither these tests nor the services know one by name.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from conftest import BINARIES, ROOT, free_port, start, stop, wait_until_serving
from reflection import ReflectionClient

FIXTURES = ROOT / "encoder-svc" / "tests" / "fixtures"
SERVICE = "movieclassifier.classifier.v1.ClassifierService"
MOVIES = 300
KINDS = (
    ("Drama", 18, "A retired judge hides a stolen painting in the house of her dying sister."),
    ("Horror", 27, "A ghost hunts two children through a lighthouse, night after night!"),
    ("War", 10752, "In 1943 a captain's ship fights a storm & 1,000 soldiers... to save one."),
)


@dataclass(frozen=True)
class Fitted:
    """A bundle, with vectors and a model made with it."""

    bundle: Path
    vectors: Path
    model: Path


def manifest(bundle: Path) -> dict:
    return json.loads((bundle / "encoder.json").read_text(encoding="utf-8"))


def one_of_each_kind() -> list[Path]:
    """Returns one bundle for each kind of tokenizer among the fixtures."""
    kinds: dict[str, Path] = {}
    for path in sorted(FIXTURES.glob("*/encoder.json")):
        kinds.setdefault(manifest(path.parent)["tokenizer"]["kind"], path.parent)
    return list(kinds.values())


BUNDLES = one_of_each_kind()


def write_movies(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "overview", "genres"])
        for number in range(1, MOVIES + 1):
            genre, code, overview = KINDS[number % len(KINDS)]
            genres = str([{"id": code, "name": genre}])
            rows.writerow([number, f"Movie {number}", f"{overview} Part {number}.", genres])


def run(folder: Path, bundle: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ENCODER_SVC_", "CLASSIFIER_SVC_"))}
    environment["ENCODER_SVC_ENCODER__BUNDLE"] = str(bundle)
    environment["ENCODER_SVC_ENCODER__RUNTIME_LIBRARY"] = str(ROOT / ".runtime" / "lib" / "libonnxruntime.so")
    program = BINARIES / command[0]
    return subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def succeed(folder: Path, bundle: Path, *command: str) -> str:
    done = run(folder, bundle, *command)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Fitted]:
    """Each bundle, with vectors and a model made by the trainer's commands."""
    made = {}
    for bundle in BUNDLES:
        folder = tmp_path_factory.mktemp(bundle.name)
        write_movies(folder / "movies.csv")
        succeed(folder, bundle, "trainer", "encode", "--input", "movies.csv", "--output", "v.parquet", "--embedded")
        succeed(folder, bundle, "trainer", "fit", "--vectors", "v.parquet", "--output", "m.safetensors")
        made[bundle] = Fitted(bundle, folder / "v.parquet", folder / "m.safetensors")
    return made


@pytest.fixture(params=BUNDLES, ids=lambda bundle: bundle.name)
def encoder(request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """A bundle and the address of an encoder that serves it."""
    address = f"127.0.0.1:{free_port()}"
    process = start("encoder-svc", "serve", "--listen", address, "--http-listen", "", "--bundle", str(request.param))
    try:
        wait_until_serving(address, process)
        yield request.param, address
    finally:
        stop(process)


def test_fixtures_have_several_kinds_of_tokenizer() -> None:
    assert len(BUNDLES) >= 2, [bundle.name for bundle in BUNDLES]


def test_encodes_fits_evaluates_and_classifies(
    encoder: tuple[Path, str], fitted: dict[Path, Fitted], tmp_path: Path
) -> None:
    bundle, address = encoder
    made = fitted[bundle]
    # The embedded encoder and the service have the same fingerprint, so all vectors exist already.
    again = ("trainer", "encode", "--input", str(made.vectors.parent / "movies.csv"), "--output", str(made.vectors))
    assert succeed(tmp_path, bundle, *again, "--encoder", f"http://{address}").startswith("nothing to do")
    evaluate = ("trainer", "evaluate", "--vectors", str(made.vectors), "--model", str(made.model), "--split", "test")
    figures = json.loads(succeed(tmp_path, bundle, *evaluate, "--json"))
    assert figures["micro_f1"] > 0.9, figures

    classifier = f"127.0.0.1:{free_port()}"
    listeners = ("--listen", classifier, "--rest-listen", "")
    process = start(
        "classifier-svc", "serve", *listeners, "--model", str(made.model), "--encoder", f"http://{address}"
    )
    try:
        wait_until_serving(classifier, process)
        client = ReflectionClient(grpc.insecure_channel(classifier))
        model = client.call(SERVICE, "GetModel")
        assert model.encoder_fingerprint == hashlib.sha256((bundle / "encoder.json").read_bytes()).hexdigest()
        for genre, _, overview in KINDS:
            response = client.call(SERVICE, "Classify", title="Movie 7", overview=f"{overview} Part 7.")
            assert response.genres[0].label == genre, response
    finally:
        stop(process)


def test_service_rejects_a_model_fitted_on_another_bundle(
    encoder: tuple[Path, str], fitted: dict[Path, Fitted], tmp_path: Path
) -> None:
    bundle, address = encoder
    others = [made for other, made in fitted.items() if other != bundle]
    assert others
    for made in others:
        serve = ("classifier-svc", "serve", "--listen", f"127.0.0.1:{free_port()}", "--rest-listen", "")
        rejected = run(tmp_path, bundle, *serve, "--model", str(made.model), "--encoder", f"http://{address}")
        assert rejected.returncode == 1, rejected.stderr
        expected = f"the model expects encoder {manifest(made.bundle)['id']}"
        assert expected in rejected.stderr and f"found {manifest(bundle)['id']}" in rejected.stderr, rejected.stderr


def test_encode_rejects_vectors_of_another_bundle(fitted: dict[Path, Fitted], tmp_path: Path) -> None:
    for bundle, made in fitted.items():
        for other in (other for other in fitted if other != bundle):
            movies, output = made.vectors.parent / "movies.csv", str(made.vectors)
            command = ("trainer", "encode", "--input", str(movies), "--output", output, "--embedded")
            rejected = run(tmp_path, other, *command)
            assert rejected.returncode == 1 and "encoder" in rejected.stderr, (rejected.stdout, rejected.stderr)
