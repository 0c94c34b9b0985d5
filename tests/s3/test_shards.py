"""`trainer encode`, `classify` and `merge` with an S3 server (moto). Run by `make test-s3`."""

from __future__ import annotations

import hashlib
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


def environment(address: str) -> dict[str, str]:
    return os.environ | KEYS | {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "ENCODER_SVC_ENCODER__BUNDLE": str(BUNDLE),
        "ENCODER_SVC_ENCODER__RUNTIME_LIBRARY": str(ROOT / ".runtime" / "lib" / "libonnxruntime.so"),
    }


def trainer(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [BINARIES / "trainer", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(address), capture_output=True, text=True, check=False)


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


PART, PARTS = 150, 3


@pytest.fixture
def bucket(tmp_path: Path, s3: tuple[str, BaseClient]) -> tuple[str, BaseClient]:
    """A bucket with Parquet files and a CSV file in `new/`, and a model and the CSV file in the folder."""
    address, client = s3
    for part in range(PARTS):
        numbers = range(part * PART, (part + 1) * PART)
        rows = "".join(f"{n},Movie {n},What happens in number {n},Drama|War\n" for n in numbers)
        (tmp_path / f"{part}.csv").write_text("id,title,overview,genres\n" + rows)
        table = ("--input", f"{part}.csv", "--genres-format", "pipe")
        succeed(tmp_path, address, "prepare", *table, "--output", f"part-{part}.parquet")
        client.upload_file(tmp_path / f"part-{part}.parquet", "movies", f"new/part-{part}.parquet")
    (tmp_path / "last.csv").write_text("id,title,overview\nx,,A ship.\ny,Nothing,\n")
    client.upload_file(tmp_path / "last.csv", "movies", "new/last.csv")
    client.put_object(Bucket="movies", Key="new/_SUCCESS", Body=b"")
    client.put_object(Bucket="movies", Key="new/deeper/part-9.parquet", Body=b"not read")
    succeed(tmp_path, address, "encode", "--movies", "part-0.parquet", "--embedded", "--output", "v.parquet")
    fit = ("fit", "--vectors", "v.parquet", "--preset", "reference", "--epochs", "1")
    succeed(tmp_path, address, *fit, "--output", "model.safetensors")
    return address, client


OPTIONS = ("--model", "model.safetensors", "--embedded", "--resume-chunk", "16", "--batch", "4", "--in-flight", "2")


def test_a_bucket_of_movies_becomes_a_bucket_of_genres(tmp_path: Path, bucket: tuple[str, BaseClient]) -> None:
    address, client = bucket

    def classify(*arguments: str) -> str:
        return succeed(tmp_path, address, "classify", *OPTIONS, *arguments)

    new = ("--input", "s3://movies/new")
    text = classify(*new, "--output", "whole.parquet")
    assert f"{PART * PARTS + 2} rows, 1 with errors" in text, text
    whole = (tmp_path / "whole.parquet").read_bytes()

    # Killed in the middle of a shard, a worker continues where it was.
    shard = ("classify", *OPTIONS, *new, "--output", "s3://movies/genres", "--shard", "1/2", "--work")
    worker = subprocess.Popen([BINARIES / "trainer", *shard, "work"], cwd=tmp_path, env=environment(address))
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.glob("work/*/*.parts/part-*.parquet")):
            assert worker.poll() is None and time.monotonic() < end, "no chunk was written"
            time.sleep(0.001)
    finally:
        worker.kill()
        worker.wait()
    failed = trainer(tmp_path, address, "merge", "--shards", "s3://movies/genres", "--output", "merged.parquet")
    assert failed.returncode == 1 and "shards s3://movies/genres: expected shards, found none" in failed.stderr
    text = succeed(tmp_path, address, *shard, "work")
    assert "wrote s3://movies/genres/shard-00001-of-00002.parquet" in text and "by an earlier run" in text, text
    assert not list(tmp_path.glob("work/*/*")), "the uploaded file is removed"
    classify(*new, "--output", "s3://movies/genres", "--work", "work", "--shard", "0/2")
    succeed(tmp_path, address, "merge", "--shards", "s3://movies/genres", "--output", "merged.parquet")
    assert (tmp_path / "merged.parquet").read_bytes() == whole
    # A worker on another machine finds its shard complete.
    assert succeed(tmp_path, address, *shard, "elsewhere").startswith("nothing to do: s3://movies/genres/")

    # One worker, one object, and patterns that match the same objects.
    patterns = ("--input", "s3://movies/new/*.csv", "s3://movies/n*/part-[0-9].parquet")
    classify(*patterns, "--output", "s3://movies/genres.parquet")
    assert client.get_object(Bucket="movies", Key="genres.parquet")["Body"].read() == whole
    local = ("--input", str(tmp_path / "last.csv"))
    classify(*local, "--output", "local.parquet")
    classify("--input", "s3://movies/new/last.csv", "--output", "remote.parquet")
    assert (tmp_path / "local.parquet").read_bytes() == (tmp_path / "remote.parquet").read_bytes()


def test_a_bucket_that_cannot_be_classified_is_named(tmp_path: Path, bucket: tuple[str, BaseClient]) -> None:
    address, client = bucket

    def refused(*arguments: str) -> str:
        failed = trainer(tmp_path, address, "classify", *OPTIONS, *arguments)
        assert failed.returncode == 1, failed.stdout
        return failed.stderr

    output = ("--output", "s3://movies/genres.parquet")
    assert "s3://nowhere/new" in refused("--input", "s3://nowhere/new", *output)
    assert "s3://movies/old: expected tables such as *.parquet" in refused("--input", "s3://movies/old", *output)
    same = ("--input", "s3://movies/new/*", "--output", "s3://movies/new/last.csv")
    assert "expected another place than that of --input" in refused(*same)
    inside = ("--input", "s3://movies/new", "--output", "s3://movies/new/", "--shard", "0/2")
    assert "expected another place than that of --input" in refused(*inside)
    client.put_object(Bucket="movies", Key="damaged.parquet", Body=b"PAR1 and not more PAR1")
    damaged = refused("--input", "s3://movies/damaged.parquet", *output)
    assert "s3://movies/damaged.parquet: expected a whole Parquet file" in damaged
    # An object that is no table of results is not replaced, nor the results of other movies.
    foreign = ("--input", "s3://movies/new", "--output", "s3://movies/damaged.parquet")
    message = refused(*foreign)
    assert "s3://movies/damaged.parquet belongs to another job: expected a whole Parquet file" in message, message
    new = ("--input", "s3://movies/new/part-0.parquet", *output)
    succeed(tmp_path, address, "classify", *OPTIONS, *new)
    client.upload_file(tmp_path / "part-1.parquet", "movies", "new/part-0.parquet")
    message = refused(*new)
    assert "s3://movies/genres.parquet belongs to another job: input_digest: expected" in message
    succeed(tmp_path, address, "classify", *OPTIONS, *new, "--restart")
    encode = trainer(tmp_path, address, "encode", "--movies", "part-0.parquet", "--output", "s3://movies/v.parquet")
    assert "--output s3://movies/v.parquet: expected a file to write to, found a URL" in encode.stderr


def test_a_finished_file_whose_upload_failed_is_uploaded_and_not_made_again(
    tmp_path: Path, bucket: tuple[str, BaseClient]
) -> None:
    address, client = bucket
    url = "s3://movies/genres.parquet"
    succeed(tmp_path, address, "classify", *OPTIONS, "--input", "s3://movies/new/part-0.parquet", "--output", url)
    # The finished file of another job for the same object.
    working = Path("work") / hashlib.sha256(url.encode()).hexdigest()[:16] / "genres.parquet"
    other = ("classify", *OPTIONS, "--input", "s3://movies/new/part-1.parquet", "--work", "work", "--output")
    (tmp_path / working).parent.mkdir(parents=True)
    succeed(tmp_path, address, *other, str(working))
    expected = (tmp_path / working).read_bytes()
    assert succeed(tmp_path, address, *other, url).startswith("nothing to do")
    assert client.get_object(Bucket="movies", Key="genres.parquet")["Body"].read() == expected
    assert not (tmp_path / working).exists()


def test_a_foreign_object_is_replaced_only_with_force(tmp_path: Path, bucket: tuple[str, BaseClient]) -> None:
    address, client = bucket
    notes = b"notes of somebody else"

    def bodies() -> dict[str, bytes]:
        listed = client.list_objects_v2(Bucket="movies", Prefix="out")["Contents"]
        return {entry["Key"]: client.get_object(Bucket="movies", Key=entry["Key"])["Body"].read() for entry in listed}

    part = ("--input", "s3://movies/new/part-0.parquet")
    classify = ("classify", *OPTIONS, *part, "--restart", "--output")
    encode = ("encode", "--movies", "part-0.parquet", "--embedded", "--restart", "--shard", "0/1", "--output")
    shard = "shard-00000-of-00001"
    for key, arguments in [
        ("out.parquet", (*classify, "s3://movies/out.parquet")),
        (f"out/{shard}.parquet", (*classify, "s3://movies/out", "--shard", "0/1")),
        (f"out/{shard}.parquet", (*encode, "s3://movies/out")),
        (f"out/{shard}.json", (*encode, "s3://movies/out")),
    ]:
        client.put_object(Bucket="movies", Key=key, Body=notes)
        before = bodies()
        failed = trainer(tmp_path, address, *arguments)
        assert failed.returncode == 1, failed.stdout
        expected = f"--output s3://movies/{key}: expected no file, or "
        assert expected in failed.stderr and "--force replaces it" in failed.stderr, failed.stderr
        assert bodies() == before
        succeed(tmp_path, address, *arguments, "--force")
        assert bodies()[key] != notes
        # Its own object is replaced without it.
        succeed(tmp_path, address, *arguments)
        client.delete_object(Bucket="movies", Key=key)


def test_error_names_a_missing_bucket(tmp_path: Path, s3: tuple[str, BaseClient]) -> None:
    failed = trainer(tmp_path, s3[0], "merge", "--shards", "s3://nowhere/vectors", "--output", "merged.parquet")
    assert failed.returncode == 1 and "shards s3://nowhere/vectors" in failed.stderr, failed.stderr
