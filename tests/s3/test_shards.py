"""`trainer encode --shard` and `merge` with an S3 server (moto). Run by `make test-s3`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

boto3 = pytest.importorskip("boto3", reason="moto needs a separate environment: run `make test-s3`")
from botocore.client import BaseClient  # noqa: E402
from botocore.exceptions import EndpointConnectionError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("BINARIES", ROOT / "target" / "debug"))
BUNDLE = ROOT / "encoder-svc" / "tests" / "fixtures" / "tiny-512"
MOVIES, SHARDS = 120, 3
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@pytest.fixture
def s3() -> Iterator[tuple[str, BaseClient]]:
    """The address of a server with the bucket `movies`, and a client."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name=KEYS["AWS_REGION"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        end = time.monotonic() + 30
        while True:
            try:
                client.create_bucket(Bucket="movies")
                break
            except EndpointConnectionError:
                assert server.poll() is None and time.monotonic() < end, "moto does not start"
                time.sleep(0.1)
        yield address, client
    finally:
        server.terminate()
        server.wait(timeout=10)


def trainer(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | KEYS | {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "ENCODER_SVC_ENCODER__BUNDLE": str(BUNDLE),
        "ENCODER_SVC_ENCODER__RUNTIME_LIBRARY": str(ROOT / ".runtime" / "lib" / "libonnxruntime.so"),
    }
    command = [BINARIES / "trainer", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def succeed(folder: Path, address: str, *arguments: str) -> str:
    done = trainer(folder, address, *arguments)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def test_merged_shards_equal_the_file_of_one_worker(tmp_path: Path, s3: tuple[str, BaseClient]) -> None:
    address, client = s3
    row = "{0},Movie {0},What happens in number {0},Drama|War\n"
    rows = "".join(row.format(number) for number in range(1, MOVIES + 1))
    (tmp_path / "movies.csv").write_text("id,title,overview,genres\n" + rows)
    movies = ("--input", "movies.csv", "--genres-format", "pipe", "--embedded")

    def encode(shard: int, *more: str) -> str:
        place = ("--output", "s3://movies/run-1/vectors", "--work", f"work-{shard}")
        return succeed(tmp_path, address, "encode", *movies, *place, "--shard", f"{shard}/{SHARDS}", *more)

    for shard in (2, 0):
        encode(shard)
    failed = trainer(tmp_path, address, "merge", "--shards", "s3://movies/run-1/vectors", "--output", "merged.parquet")
    assert failed.returncode == 1 and "expected shard 1 of 3, found none" in failed.stderr, failed.stderr
    encode(1)
    names = {entry["Key"] for entry in client.list_objects_v2(Bucket="movies")["Contents"]}
    kinds = ("parquet", "json")
    assert names == {f"run-1/vectors/shard-{n:05}-of-00003.{kind}" for n in range(SHARDS) for kind in kinds}
    manifest = client.get_object(Bucket="movies", Key="run-1/vectors/shard-00001-of-00003.json")["Body"].read()
    assert json.loads(manifest)["movies"] == MOVIES // SHARDS

    succeed(tmp_path, address, "merge", "--shards", "s3://movies/run-1/vectors", "--output", "merged.parquet")
    succeed(tmp_path, address, "encode", *movies, "--output", "single.parquet")
    assert (tmp_path / "merged.parquet").read_bytes() == (tmp_path / "single.parquet").read_bytes()
    # A worker restarted on another machine finds its shard complete.
    assert encode(1, "--in-flight", "2").startswith("nothing to do")
    fit = ("fit", "--vectors", "s3://movies/run-1/vectors", "--preset", "reference", "--epochs", "1")
    assert "wrote model.safetensors" in succeed(tmp_path, address, *fit, "--output", "model.safetensors")
    # A shard changed in the bucket.
    client.put_object(Bucket="movies", Key="run-1/vectors/shard-00000-of-00003.parquet", Body=b"PAR1 and more")
    failed = trainer(tmp_path, address, "merge", "--shards", "s3://movies/run-1/vectors", "--output", "again.parquet")
    assert failed.returncode == 1 and "expected SHA-256" in failed.stderr, failed.stderr


def test_error_names_a_missing_bucket(tmp_path: Path, s3: tuple[str, BaseClient]) -> None:
    failed = trainer(tmp_path, s3[0], "merge", "--shards", "s3://nowhere/vectors", "--output", "merged.parquet")
    assert failed.returncode == 1 and "shards s3://nowhere/vectors" in failed.stderr, failed.stderr
