"""Secrets in settings, and requests that a browser can be made to send."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from abused import Pair, Service, kill, pair, start  # noqa: F401
from conftest import BINARIES, ROOT

KEYS = ("0042", "1e5", "true", "0x10", "1_000", " 7", "[a]", "a,b")


def with_key(folder: Path, key: str) -> tuple[Service, Service]:
    """Starts an encoder that requires `key`, and a classifier that gets the key by its environment variable."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    encoder = start(
        folder,
        "encoder-svc",
        f'listen = "{{grpc}}"\n[http]\nlisten = "{{http}}"\n[encoder]\nsessions = 1\n'
        f'[[auth.keys]]\nname = "classifier"\nsha256 = "{digest}"\n',
    )
    try:
        classifier = start(
            folder,
            "classifier-svc",
            f'listen = "{{grpc}}"\n[rest]\nlisten = "{{http}}"\n[encoder]\nurl = "http://{encoder.grpc}"\n',
            environment={"CLASSIFIER_SVC_ENCODER__API_KEY": key},
        )
    except AssertionError:
        kill(encoder)
        raise
    return encoder, classifier


@pytest.mark.parametrize("key", KEYS[:2])
def test_key_given_by_variable_reaches_the_encoder_as_written(tmp_path: Path, key: str) -> None:
    """The classifier is ready only once an encoder accepts its key."""
    running = with_key(tmp_path, key)
    try:
        pair_of = Pair(*running)
        pair_of.classify()
    finally:
        for service in running:
            kill(service)


def printed(service: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if "_SVC_" not in name} | variables
    command = [BINARIES / service, "serve", "--print-config"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20, check=False)
    return run.stdout + run.stderr


@pytest.mark.parametrize("url", ["http://user:hunter2@encoder:50051", "http://hunter2@encoder:50051", "http://u:hunter2@"])
def test_password_in_a_url_is_not_printed(url: str) -> None:
    assert "hunter2" not in printed("classifier-svc", CLASSIFIER_SVC_ENCODER__URL=url)
    assert "hunter2" not in printed("encoder-svc", ENCODER_SVC_TRACE__ENDPOINT=url)
    assert "hunter2" not in printed("classifier-svc", CLASSIFIER_SVC_TRACE__ENDPOINT=url)


def test_password_in_a_url_is_not_in_the_error_of_a_start(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "_SVC_" not in name}
    for url in ("http://user:hunter2@[", "ftp://user:hunter2@encoder:1", "http://user:hunter2@encoder:50051/path"):
        command = [BINARIES / "classifier-svc", "serve", "--listen", "127.0.0.1:0", "--rest-listen", "", "--encoder", url]
        with (tmp_path / "log").open("w+b") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.seek(0)
            assert b"hunter2" not in log.read(), url


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example"])
def test_rejects_a_host_that_a_browser_can_be_made_to_name(pair: Pair, host: str) -> None:  # noqa: F811
    """DNS rebinding: a page of another origin resolves its own name to this machine."""
    for path in ("/", "/openapi.json", "/metrics", "/v1/model"):
        assert pair.classifier.get(path, Host=host) == 421, path
    assert pair.encoder.get("/metrics", Host=host) == 421
    assert pair.post({"overview": "A storm."}, Host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_accepts_the_names_of_this_machine(pair: Pair, host: str) -> None:  # noqa: F811
    port = pair.classifier.http.rsplit(":", 1)[1]
    for name in (host, f"{host}:{port}", f"{host}:80"):
        assert pair.classifier.get("/livez", Host=name) == 200
        assert pair.post({"overview": "A storm."}, Host=name)[0] == 200
