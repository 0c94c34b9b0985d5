"""The REST client of clients/python and `classifier-svc classify`, with the real services and with servers that fail."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from certificates import self_signed
from conftest import BINARIES, READY_SECONDS, ROOT, Services, free_port, start, stop, wait_until_serving
from movies import write_movies

CLIENTS = ROOT / "clients" / "python"
TITLE = "Dust Creek"
OVERVIEW = "A gunslinger defends a frontier town against a cattle baron. He falls in love with the schoolteacher."


def run(script: Path, *arguments: str, key: str | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MOVIECLASSIFIER_API_KEY"}
    if key is not None:
        environment["MOVIECLASSIFIER_API_KEY"] = key
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def http_client() -> Path:
    return CLIENTS / "classify_http.py"


def test_http_client_classifies_a_movie(http_client: Path, services: Services) -> None:
    result = run(http_client, "--url", services.rest, "--title", TITLE, "--overview", OVERVIEW)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^\* Western +\d+\.\d%  \(threshold \d+\.\d%\)$", result.stdout, re.MULTILINE)
    result = run(http_client, "--url", services.rest, "--overview", OVERVIEW, "--all")
    assert len(result.stdout.splitlines()) == 20


def test_predict_genre_keeps_the_reference_interface(http_client: Path, services: Services) -> None:
    result = run(http_client, "--url", services.rest, "--predict-genre", "--title", TITLE, "--overview", OVERVIEW)
    assert result.returncode == 0, result.stderr
    (response,) = json.loads(result.stdout)
    assert list(response) == ["title", "overview", "genre"]
    assert (response["title"], response["overview"]) == (TITLE, OVERVIEW)
    assert "Western" in response["genre"].split(", ")


def test_http_client_reports_a_rejected_movie(http_client: Path, services: Services) -> None:
    result = run(http_client, "--url", services.rest, "--overview", " ")
    assert result.returncode == 1 and result.stdout == ""
    assert re.match(r"error: EMPTY_TEXT: overview: .+", result.stderr)


@contextlib.contextmanager
def flaky_http(statuses: list[int]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Runs a server that fails with each status in turn, then succeeds. Yields its URL and the headers of each request."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers["content-length"]))
            rejected = len(seen) <= len(statuses)
            response = {"reason": "QUEUE_FULL", "detail": "full", "errors": []} if rejected else {"genres": []}
            body = json.dumps(response).encode()
            self.send_response(statuses[len(seen) - 1] if rejected else 200)
            self.send_header("retry-after", "0")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("statuses", "code", "requests"),
    [([503, 429], 0, 3), ([503] * 9, 1, 4), ([500], 1, 1)],
    ids=["busy for a while", "busy for good", "broken"],
)
def test_http_client_retries_only_temporary_errors(
    http_client: Path, statuses: list[int], code: int, requests: int
) -> None:
    with flaky_http(statuses) as (url, seen):
        result = run(http_client, "--url", url, "--overview", OVERVIEW, key="sesame")
    assert (result.returncode, len(seen)) == (code, requests), result.stderr
    assert {headers["authorization"] for headers in seen} == {"Bearer sesame"}


def test_http_client_reports_an_unreachable_service_in_one_line(http_client: Path) -> None:
    result = run(http_client, "--url", "http://127.0.0.1:9", "--overview", OVERVIEW)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")


@pytest.fixture(scope="module")
def secured(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, Path]]:
    """A classifier with TLS that accepts the API key "sesame", and its certificate authority."""
    folder = tmp_path_factory.mktemp("secured")
    tls = self_signed(folder)
    digest = hashlib.sha256(b"sesame").hexdigest()
    settings = folder / "settings.toml"
    settings.write_text(f'{tls.settings()}\n[[auth.keys]]\nname = "tests"\nsha256 = "{digest}"\n')
    classifier, rest = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    listeners = ("--listen", classifier, "--rest-listen", rest)
    encoder = ("--encoder", f"http://{services.encoder}")
    process = start("classifier-svc", "serve", "--config", str(settings), *listeners, *encoder)
    try:
        channel = grpc.secure_channel(classifier, grpc.ssl_channel_credentials(tls.certificate.read_bytes()))
        with channel:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
        yield Services(services.encoder, classifier, f"https://{rest}"), tls.certificate
    finally:
        stop(process)


@pytest.mark.parametrize(("key", "code"), [("sesame", 0), ("wrong", 1), (None, 1)])
def test_requires_tls_and_an_api_key(
    http_client: Path, secured: tuple[Services, Path], key: str | None, code: int
) -> None:
    services, authority = secured
    result = run(http_client, "--url", services.rest, "--ca", str(authority), "--overview", OVERVIEW, key=key)
    assert result.returncode == code, result.stderr
    assert ("Western" in result.stdout) is (code == 0)
    assert code == 0 or "UNAUTHENTICATED" in result.stderr


def test_http_client_rejects_a_certificate_of_an_unknown_authority(
    http_client: Path, secured: tuple[Services, Path]
) -> None:
    services, _ = secured
    result = run(http_client, "--url", services.rest, "--overview", OVERVIEW, key="sesame")
    assert result.returncode == 1 and result.stdout == "" and "sesame" not in result.stderr


@pytest.fixture
def rate_limited(services: Services, tmp_path: Path) -> Iterator[str]:
    """The address of a classifier whose API key "sesame" allows two calls at once and then 20 a second."""
    digest = hashlib.sha256(b"sesame").hexdigest()
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[[auth.keys]]\nname = "tests"\nsha256 = "{digest}"\nrequests_per_second = 20\nburst = 2\n')
    address = f"127.0.0.1:{free_port()}"
    listeners = ("--listen", address, "--rest-listen", "")
    encoder = ("--encoder", f"http://{services.encoder}")
    process = start("classifier-svc", "serve", "--config", str(settings), *listeners, *encoder)
    try:
        wait_until_serving(address, process)
        yield address
    finally:
        stop(process)


def test_classify_asks_again_for_each_movie_over_the_rate_limit(rate_limited: str, tmp_path: Path) -> None:
    movies = tmp_path / "movies.csv"
    write_movies(movies, 40)
    command = [BINARIES / "classifier-svc", "classify", "--address", f"http://{rate_limited}", "--input", movies]
    environment = os.environ | {"MOVIECLASSIFIER_API_KEY": "sesame"}
    begin = time.monotonic()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    seconds = time.monotonic() - begin
    assert (result.returncode, result.stderr) == (0, "")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["row"] for record in records] == list(range(1, 41))
    assert all("genres" in record for record in records)
    # 38 calls after the burst, one every 50 ms.
    assert seconds > 1.8, "the rate limit was not in force"
