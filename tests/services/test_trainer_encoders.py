"""The commands of the trainer that call an encoder, with one that asks for TLS and an API key."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Certificate, self_signed
from conftest import BINARIES, ROOT, free_port, start, stop, wait_until_serving
from label_sets import BUNDLE, LABELS_FILE, write_tickets

KEY = "the trainer's key"
SMALL = ("--units", "16", "--epochs", "2", "--ensemble", "1")


@dataclass(frozen=True)
class Encoder:
    url: str
    certificate: Certificate


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tmp_path_factory.mktemp("encoder")
    certificate = self_signed(folder)
    key = f'[[auth.keys]]\nname = "trainer"\nsha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"\n'
    settings = folder / "encoder.toml"
    settings.write_text(certificate.settings() + key)
    address = f"127.0.0.1:{free_port()}"
    listeners = ("--listen", address, "--http-listen", "")
    process = start("encoder-svc", "serve", "--config", str(settings), *listeners, "--bundle", BUNDLE)
    try:
        wait_until_serving(address, process, certificate.certificate.read_bytes())
        yield Encoder(f"https://{address}", certificate)
    finally:
        stop(process)


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINER_ENCODER_")}
    command = [BINARIES / "trainer", *arguments]
    environment |= {f"TRAINER_ENCODER__{name}": value for name, value in variables.items()}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_command_gives_certificates_and_a_key(encoder: Encoder, tmp_path: Path) -> None:
    write_tickets(tmp_path / "tickets.csv")
    (tmp_path / "labels.toml").write_text(LABELS_FILE)
    (tmp_path / "key").write_text(f"{KEY}\n")
    ca = str(encoder.certificate.certificate)
    arguments = ("--encoder", encoder.url, "--ca", ca, "--api-key-file", "key")
    variables = {"URL": encoder.url, "TLS__CA": ca, "API_KEY": KEY}

    def succeed(*command: str, more: dict[str, str] | None = None) -> str:
        done = run(tmp_path, *command, **(more or {}))
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert KEY not in done.stdout + done.stderr
        return done.stdout

    table = ("--input", "tickets.csv", "--genres-format", "pipe", "--labels", "labels.toml")
    succeed("encode", *table, "--output", "v.parquet", *arguments)
    succeed("encode", *table, "--output", "again.parquet", more=variables)
    assert (tmp_path / "v.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    succeed("fit", "--vectors", "v.parquet", "--output", "m.safetensors", *SMALL)
    model = ("--model", "m.safetensors")
    succeed("evaluate", "--input", "tickets.csv", "--genres-format", "pipe", "--split", "all", *model, *arguments)
    file = variables | {"API_KEY_FILE": "key"}
    del file["API_KEY"]
    text = succeed("classify", "--input", "tickets.csv", *model, "--output", "genres.parquet", more=file)
    assert "240 rows, 0 with errors" in text, text
    movies = "id,title,overview,genres\n" + "".join(
        f"{n},Movie {n},A story about number {n}.,\"[{{'id': {18 + n % 2}, 'name': '{'Drama' if n % 2 == 0 else 'Comedy'}'}}]\"\n"
        for n in range(1, 301)
    )
    (tmp_path / "movies.csv").write_text(movies)
    few = ("--trials", "1", "--epochs", "1", "--threads", "1")
    succeed("reference", "--input", "movies.csv", "--work", "reference", *few, *arguments)


@pytest.mark.parametrize("key", [None, "another key"])
def test_a_missing_or_unknown_key_fails_at_once_and_says_where_to_give_it(
    encoder: Encoder, tmp_path: Path, key: str | None
) -> None:
    (tmp_path / "new.csv").write_text("id,overview\n1,A ship.\n")
    variables = {"URL": encoder.url, "TLS__CA": str(encoder.certificate.certificate)}
    if key is not None:
        variables["API_KEY"] = key
    model = str(ROOT / "models" / "default.safetensors")
    done = run(tmp_path, "classify", "--input", "new.csv", "--output", "o.parquet", "--model", model, **variables)
    assert done.returncode == 1
    assert "give it with --api-key-file or TRAINER_ENCODER__API_KEY" in done.stderr, done.stderr
    assert key is None or key not in done.stderr


def test_settings_that_cannot_work_are_named(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,overview\n1,A ship.\n")
    (tmp_path / "empty").write_text("\n")
    ca = str(encoder.certificate.certificate)
    model = str(ROOT / "models" / "default.safetensors")
    classify = ("classify", "--input", "new.csv", "--output", "o.parquet", "--model", model, "--encoder", encoder.url)
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        ((), {}, "tls.ca"),
        (("--ca", "missing.pem"), {}, "missing.pem"),
        (("--ca", ca, "--api-key-file", "missing"), {}, "setting encoder.api_key_file: missing: "),
        (("--ca", ca, "--api-key-file", "empty"), {}, "expected a key of printable ASCII characters"),
        (("--ca", ca, "--api-key-file", "empty"), {"API_KEY": KEY}, "setting encoder.api_key: "),
        (("--ca", ca), {"API_KEYS": KEY}, "TRAINER_ENCODER__API_KEYS"),
    ]
    for arguments, variables, expected in cases:
        done = run(tmp_path, *classify, *arguments, **variables)
        assert done.returncode == 1 and expected in done.stderr, (arguments, variables, done.stderr)
        assert KEY not in done.stderr
    done = run(tmp_path, *classify[:-2], URL="http://user:hunter2@encoder:1")
    assert done.returncode == 1 and "encoder.url" in done.stderr and "hunter2" not in done.stderr, done.stderr
