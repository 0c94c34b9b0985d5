"""gRPC-Web at the classifier's HTTP port, framed by hand as a browser's client frames it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from conftest import Services, free_port, start, stop, wait_until_serving
from reflection import ReflectionClient, with_key

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
CLASSIFY = f"/{CLASSIFIER}/Classify"
BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text+proto"
ORIGIN = "https://movies.example"
KEY = "secret"
TIMEOUT_SECONDS = 2
TRAILERS = 0x80
INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNIMPLEMENTED, UNAUTHENTICATED = "3", "4", "12", "16"
SETTINGS = f"""
[rest]
grpc_web = true
cors_origins = ["{ORIGIN}"]
timeout_seconds = {TIMEOUT_SECONDS}
[limits]
max_batch_size = 1
[[auth.keys]]
name = "browser"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
"""


@dataclass
class Web:
    """A classifier that speaks gRPC-Web."""

    grpc: str
    http: str
    request: Any
    response: Any


@pytest.fixture(scope="module")
def web(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    file = tmp_path_factory.mktemp("web") / "classifier.toml"
    file.write_text(SETTINGS)
    listen = ("--config", str(file), "--listen", addresses[0], "--rest-listen", addresses[1])
    process = start("classifier-svc", "serve", *listen, "--encoder", f"http://{services.encoder}")
    try:
        wait_until_serving(addresses[0], process)
        with grpc.insecure_channel(addresses[0]) as channel:
            _, request, response = ReflectionClient(with_key(channel, KEY)).method(CLASSIFIER, "Classify")
            yield Web(*addresses, request, response)
    finally:
        stop(process)


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframed(body: bytes) -> list[tuple[int, bytes]]:
    """Returns the flags and the payload of each frame."""
    frames = []
    while body:
        end = 5 + int.from_bytes(body[1:5], "big")
        frames.append((body[0], body[5:end]))
        body = body[end:]
    return frames


def call(
    web: Web, body: bytes, kind: str = BINARY, path: str = CLASSIFY, **headers: str
) -> tuple[dict[str, str], list[bytes], http.client.HTTPResponse]:
    """Returns the trailers, the messages and the response of a call."""
    connection = http.client.HTTPConnection(web.http, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"content-type": kind, "accept": kind, "x-grpc-web": "1", "origin": ORIGIN, "x-api-key": KEY} | named
    sent = base64.b64encode(body) if "text" in kind else body
    connection.request("POST", path, sent, given)
    response = connection.getresponse()
    received = response.read()
    connection.close()
    if "text" in kind:
        # Each part is padded on its own.
        received = b"".join(base64.b64decode(received[at : at + 4]) for at in range(0, len(received), 4))
    frames = unframed(received) if response.status == 200 else []
    trailers = {name.lower(): value for name, value in response.getheaders()}
    for flags, payload in frames:
        if flags & TRAILERS:
            lines = (line.partition(":") for line in payload.decode().split("\r\n") if line)
            trailers |= {name: value.strip() for name, _, value in lines}
    return trailers, [payload for flags, payload in frames if not flags & TRAILERS], response


@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_a_browser_gets_the_answer_of_grpc(web: Web, kind: str) -> None:
    request = web.request(overview="A sheriff hunts a gang across the desert.", include_scores=True)
    trailers, (message,), response = call(web, framed(request.SerializeToString()), kind)
    assert (response.status, response.getheader("content-type"), trailers["grpc-status"]) == (200, kind, "0")
    with grpc.insecure_channel(web.grpc) as channel:
        fields = {"overview": request.overview, "include_scores": True}
        expected = ReflectionClient(with_key(channel, KEY)).call(CLASSIFIER, "Classify", **fields)
    assert message == expected.SerializeToString()
    assert response.getheader("access-control-allow-origin") == ORIGIN
    exposed = response.getheader("access-control-expose-headers", "")
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin"} <= set(exposed.split(","))


def test_a_stream_answers_every_movie(web: Web) -> None:
    with grpc.insecure_channel(web.grpc) as channel:
        path, request, response = ReflectionClient(with_key(channel, KEY)).method(CLASSIFIER, "ClassifyStream")
    movies = [request(id=str(number), overview="A storm.") for number in range(3)]
    body = b"".join(framed(movie.SerializeToString()) for movie in movies)
    trailers, messages, _ = call(web, body, path=path)
    assert trailers["grpc-status"] == "0"
    assert sorted(response.FromString(message).id for message in messages) == ["0", "1", "2"]


def test_over_http_2(web: Web, tmp_path: Path) -> None:
    file = tmp_path / "request"
    file.write_bytes(framed(web.request(overview="A storm.").SerializeToString()))
    headers = [f"content-type: {BINARY}", f"accept: {BINARY}", f"x-api-key: {KEY}"]
    given = [part for header in headers for part in ("--header", header)]
    command = ["curl", "-s", "--http2-prior-knowledge", "--max-time", "20", *given, "--data-binary", f"@{file}"]
    output = subprocess.run([*command, f"http://{web.http}{CLASSIFY}"], capture_output=True, check=True).stdout
    (flags, message), (last, trailers) = unframed(output)
    assert (flags, last) == (0, TRAILERS) and b"grpc-status:0" in trailers
    assert web.response.FromString(message).model_version


def test_a_preflight_allows_the_headers_of_a_client(web: Web) -> None:
    connection = http.client.HTTPConnection(web.http, timeout=20)
    asked = "content-type,x-grpc-web,x-user-agent,grpc-timeout,authorization,x-api-key"
    headers = {"access-control-request-method": "POST", "access-control-request-headers": asked}
    connection.request("OPTIONS", CLASSIFY, headers={"origin": ORIGIN, **headers})
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("access-control-allow-origin") == ORIGIN
    assert set(asked.split(",")) <= set(response.getheader("access-control-allow-headers", "").split(","))
    connection.close()


def test_errors_are_those_of_grpc(web: Web) -> None:
    message = framed(web.request(overview="A storm.").SerializeToString())
    large = framed(web.request(overview="A" * 100_000).SerializeToString())
    for body, options, status, words in (
        (framed(b""), {}, INVALID_ARGUMENT, "overview"),
        (large, {}, INVALID_ARGUMENT, "decoded message length too large"),
        (framed(b"\xff\xff"), {}, INVALID_ARGUMENT, "failed to decode"),
        (message, {"x_api_key": "other"}, UNAUTHENTICATED, "API key"),
        (message, {"grpc_timeout": "1n"}, DEADLINE_EXCEEDED, "deadline"),
        (message, {"path": f"/{CLASSIFIER}/Clasify"}, UNIMPLEMENTED, "this port serves the methods BatchClassify"),
    ):
        trailers, messages, response = call(web, body, **options)
        assert (response.status, trailers.get("grpc-status"), messages) == (200, status, []), options
        assert words in unquote(trailers["grpc-message"]), trailers
        assert trailers["access-control-allow-origin"] == ORIGIN


def test_text_that_is_no_base64_is_an_invalid_argument(web: Web) -> None:
    connection = http.client.HTTPConnection(web.http, timeout=20)
    connection.request("POST", CLASSIFY, "!" * 64, {"content-type": TEXT, "accept": TEXT, "x-api-key": KEY})
    response = connection.getresponse()
    assert (response.status, response.getheader("grpc-status")) == (200, INVALID_ARGUMENT)
    connection.close()


def test_another_content_type_is_unsupported(web: Web) -> None:
    _, _, response = call(web, b"{}", kind="application/json")
    assert response.status == 415


def test_a_client_that_sends_half_a_request_is_answered_in_time(web: Web) -> None:
    host, port = web.http.rsplit(":", 1)
    head = f"POST {CLASSIFY} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {BINARY}\r\nx-api-key: {KEY}\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}content-length: 100\r\n\r\n".encode() + b"\0\0\0")
        begin = time.monotonic()
        answer = connection.recv(1 << 16).lower()
    assert b"grpc-status: " in answer and b"grpc-status: 0" not in answer
    assert time.monotonic() - begin < TIMEOUT_SECONDS + 3


def test_it_is_off_unless_set(services: Services) -> None:
    off = Web(services.classifier, services.rest.removeprefix("http://"), None, None)
    connection = http.client.HTTPConnection(off.http, timeout=20)
    connection.request("POST", CLASSIFY, framed(b""), {"content-type": BINARY})
    response = connection.getresponse()
    assert response.status == 404
    assert b"rest.grpc_web" in response.read()
    connection.close()
