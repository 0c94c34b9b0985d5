"""The example clients as their README has them, against the real services and against ones that fail on purpose."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import READY_SECONDS, ROOT, Services, free_port, start, stop

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


@pytest.fixture(scope="module")
def grpc_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gRPC client beside stubs that the README's own command has generated."""
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools: install tests/requirements.txt")
    folder = tmp_path_factory.mktemp("client")
    readme = (CLIENTS / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^    python (-m grpc_tools\.protoc.*?\.proto)$", readme, re.MULTILINE | re.DOTALL)
    assert found, "README.md must say how the stubs are generated"
    command = found[1].replace("\\\n", " ").replace("clients/python", str(folder)).split()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    return Path(shutil.copy(CLIENTS / "classify_grpc.py", folder))


@pytest.fixture
def http_client() -> Path:
    return CLIENTS / "classify_http.py"


def test_a_movie_is_classified_over_grpc(grpc_client: Path, services: Services) -> None:
    result = run(grpc_client, "--address", services.classifier, "--title", TITLE, "--overview", OVERVIEW)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^\* Western +\d+\.\d%  \(threshold \d+\.\d%\)$", result.stdout, re.MULTILINE)
    result = run(grpc_client, "--address", services.classifier, "--overview", OVERVIEW, "--all")
    assert len(result.stdout.splitlines()) == 20


def test_an_explanation_has_every_sentence_over_grpc(grpc_client: Path, services: Services) -> None:
    result = run(grpc_client, "--address", services.classifier, "--overview", OVERVIEW, "--explain")
    assert result.returncode == 0
    for sentence in re.findall(r"[^.]+\.", OVERVIEW):
        assert re.search(rf"^{re.escape(sentence.strip())}\n    .*Western [+-]\d", result.stdout, re.MULTILINE)


def test_more_movies_than_one_batch_takes_are_answered_in_order_over_grpc(grpc_client: Path, services: Services) -> None:
    movies = [{"title": f"Movie {number}", "overview": OVERVIEW} for number in range(258)]
    lines = "\n".join(map(json.dumps, movies))
    result = run(grpc_client, "--address", services.classifier, "--movies", "-", "--deadline", "50", stdin=lines)
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["title"] for answer in answers] == [movie["title"] for movie in movies]
    assert all("Western" in answer["genres"] for answer in answers)


def test_a_refused_movie_is_an_exit_code_and_a_reason_over_grpc(grpc_client: Path, services: Services) -> None:
    result = run(grpc_client, "--address", services.classifier, "--overview", " ")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: INVALID_ARGUMENT: ") and "overview" in result.stderr
    result = run(grpc_client, "--address", services.classifier, "--movies", "-", stdin='{"overview": "A."}\n[]\n')
    assert result.returncode == 1 and "line 2" in result.stderr


@contextlib.contextmanager
def flaky_grpc(failures: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers UNAVAILABLE so many times, then an empty answer; and the metadata and time of each call."""
    calls: list[dict[str, Any]] = []

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        calls.append({"metadata": dict(context.invocation_metadata()), "left": context.time_remaining()})
        if len(calls) <= failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")
        return b""

    handler = grpc.method_handlers_generic_handler(
        "movieclassifier.classifier.v1.ClassifierService", {"Classify": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", calls
    finally:
        server.stop(None).wait()


def test_an_unavailable_service_is_asked_again_within_the_deadline_over_grpc(grpc_client: Path) -> None:
    with flaky_grpc(2) as (address, calls):
        result = run(grpc_client, "--address", address, "--overview", OVERVIEW, "--deadline", "8", key="sesame")
    assert result.returncode == 0, result.stderr
    assert len(calls) == 3 and 0 < calls[-1]["left"] < calls[0]["left"] <= 8
    assert {call["metadata"]["authorization"] for call in calls} == {"Bearer sesame"}


def test_a_service_that_stays_unavailable_is_given_up_over_grpc(grpc_client: Path) -> None:
    with flaky_grpc(100) as (address, calls):
        result = run(grpc_client, "--address", address, "--overview", OVERVIEW)
    assert result.returncode == 1 and "UNAVAILABLE" in result.stderr
    assert len(calls) == 4


def test_a_movie_is_classified_over_http(http_client: Path, services: Services) -> None:
    result = run(http_client, "--url", services.rest, "--title", TITLE, "--overview", OVERVIEW)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^\* Western +\d+\.\d%  \(threshold \d+\.\d%\)$", result.stdout, re.MULTILINE)
    result = run(http_client, "--url", services.rest, "--overview", OVERVIEW, "--all")
    assert len(result.stdout.splitlines()) == 20


def test_the_reference_interface_answers_as_it_did(http_client: Path, services: Services) -> None:
    result = run(http_client, "--url", services.rest, "--predict-genre", "--title", TITLE, "--overview", OVERVIEW)
    assert result.returncode == 0, result.stderr
    (answer,) = json.loads(result.stdout)
    assert list(answer) == ["title", "overview", "genre"]
    assert (answer["title"], answer["overview"]) == (TITLE, OVERVIEW)
    assert "Western" in answer["genre"].split(", ")


def test_a_refused_movie_is_an_exit_code_and_a_reason_over_http(http_client: Path, services: Services) -> None:
    result = run(http_client, "--url", services.rest, "--overview", " ")
    assert result.returncode == 1 and result.stdout == ""
    assert re.match(r"error: EMPTY_TEXT: overview: .+", result.stderr)


@contextlib.contextmanager
def flaky_http(refusals: list[int]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers these statuses in turn, then no genres; and the headers of each request."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers["content-length"]))
            refused = len(seen) <= len(refusals)
            answer = {"reason": "QUEUE_FULL", "detail": "full", "errors": []} if refused else {"genres": []}
            body = json.dumps(answer).encode()
            self.send_response(refusals[len(seen) - 1] if refused else 200)
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
    ("refusals", "code", "requests"),
    [([503, 429], 0, 3), ([503] * 9, 1, 4), ([500], 1, 1)],
    ids=["busy for a while", "busy for good", "broken"],
)
def test_only_refusals_that_pass_are_asked_again_over_http(
    http_client: Path, refusals: list[int], code: int, requests: int
) -> None:
    with flaky_http(refusals) as (url, seen):
        result = run(http_client, "--url", url, "--overview", OVERVIEW, key="sesame")
    assert (result.returncode, len(seen)) == (code, requests), result.stderr
    assert {headers["authorization"] for headers in seen} == {"Bearer sesame"}


@pytest.mark.parametrize("name", ["classify_grpc.py", "classify_http.py"])
def test_an_absent_service_is_an_exit_code_and_one_line(grpc_client: Path, http_client: Path, name: str) -> None:
    clients = {
        "classify_grpc.py": (grpc_client, "--address", "127.0.0.1:9", "--deadline", "2"),
        "classify_http.py": (http_client, "--url", "http://127.0.0.1:9"),
    }
    result = run(*clients[name], "--overview", OVERVIEW)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")


def test_without_stubs_the_grpc_client_says_what_to_do(tmp_path: Path) -> None:
    script = Path(shutil.copy(CLIENTS / "classify_grpc.py", tmp_path))
    result = run(script, "--overview", OVERVIEW)
    assert result.returncode == 1 and "README.md" in result.stderr and "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def secured(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, Path]]:
    """A classifier that speaks TLS and knows the key "sesame"; and the authority to trust."""
    if shutil.which("openssl") is None:
        pytest.skip("the clients' TLS tests need openssl")
    folder = tmp_path_factory.mktemp("secured")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    request = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    command = ["openssl", *request, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    digest = hashlib.sha256(b"sesame").hexdigest()
    settings = folder / "settings.toml"
    settings.write_text(
        f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n\n[[auth.keys]]\nname = "tests"\nsha256 = "{digest}"\n'
    )
    classifier, rest = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    listeners = ("--listen", classifier, "--rest-listen", rest)
    encoder = ("--encoder", f"http://{services.encoder}")
    process = start("classifier-svc", "serve", "--config", str(settings), *listeners, *encoder)
    try:
        channel = grpc.secure_channel(classifier, grpc.ssl_channel_credentials(certificate.read_bytes()))
        with channel:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
        yield Services(services.encoder, classifier, f"https://{rest}"), certificate
    finally:
        stop(process)


@pytest.mark.parametrize(("key", "code"), [("sesame", 0), ("wrong", 1), (None, 1)])
@pytest.mark.parametrize("name", ["classify_grpc.py", "classify_http.py"])
def test_tls_and_an_api_key_let_a_client_in_and_nothing_else_does(
    grpc_client: Path, http_client: Path, secured: tuple[Services, Path], name: str, key: str | None, code: int
) -> None:
    services, authority = secured
    clients = {
        "classify_grpc.py": (grpc_client, "--address", services.classifier),
        "classify_http.py": (http_client, "--url", services.rest),
    }
    result = run(*clients[name], "--ca", str(authority), "--overview", OVERVIEW, key=key)
    assert result.returncode == code, result.stderr
    assert ("Western" in result.stdout) is (code == 0)
    assert code == 0 or "UNAUTHENTICATED" in result.stderr


@pytest.mark.parametrize("name", ["classify_grpc.py", "classify_http.py"])
def test_a_certificate_of_an_unknown_authority_is_not_trusted(
    grpc_client: Path, http_client: Path, secured: tuple[Services, Path], name: str
) -> None:
    services, _ = secured
    clients = {
        "classify_grpc.py": (grpc_client, "--address", services.classifier, "--tls", "--deadline", "2"),
        "classify_http.py": (http_client, "--url", services.rest),
    }
    result = run(*clients[name], "--overview", OVERVIEW, key="sesame")
    assert result.returncode == 1 and result.stdout == "" and "sesame" not in result.stderr
