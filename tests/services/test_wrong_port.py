"""Clients at the wrong port, with the wrong protocol or with an unknown method: each learns what the port serves."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from conftest import BINARIES, ROOT, Services, free_port
from error_details import details
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from reflection import ReflectionClient
from waiting import wait_for

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
ENCODER = "movieclassifier.encoder.v1.EncoderService"
OPEN_INFERENCE = "inference.GRPCInferenceService"
COMMON = [
    OPEN_INFERENCE,
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]


def failure(address: str, path: str) -> grpc.RpcError:
    """Calls a method with an empty message and returns its error."""
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(path)(b"", timeout=10)
    return raised.value


def curl(*arguments: str) -> tuple[str, str]:
    """Returns the status and the body of a request."""
    command = ["curl", "--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}", *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    body, _, status = output.rpartition("\n")
    return status, body


def port(address: str) -> str:
    return address.rsplit(":", 1)[1]


def test_reflection_lists_what_the_port_serves(services: Services) -> None:
    for address, own in ((services.classifier, CLASSIFIER), (services.encoder, ENCODER)):
        with grpc.insecure_channel(address) as channel:
            listed = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert sorted(listed) == sorted([own, *COMMON])


@pytest.mark.parametrize("path", [f"/{ENCODER}/Encode", "/x.Y/Z", f"/{ENCODER}/NoSuchMethod", "/grpc.channelz.v1.C/D"])
def test_the_error_of_an_unknown_service_lists_those_of_the_port(services: Services, path: str) -> None:
    error = failure(services.classifier, path)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    served = f"this port serves {CLASSIFIER}, {OPEN_INFERENCE} and the health and reflection services"
    assert error.details() == f"{path} is not served here; {served}"
    assert details(error)["ErrorInfo"].reason == "NOT_SERVED"


def test_an_unknown_method_is_answered_with_the_methods(services: Services) -> None:
    error = failure(services.encoder, f"/{ENCODER}/Encod")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    served = f"this port serves the methods Encode, EncodeStream, GetEncoder of {ENCODER}"
    assert error.details() == f"/{ENCODER}/Encod is not served here; {served}"
    assert details(error)["ErrorInfo"].reason == "NOT_SERVED"


def test_a_grpc_client_at_the_http_port_learns_the_grpc_port(services: Services) -> None:
    error = failure(services.rest.removeprefix("http://"), f"/{CLASSIFIER}/Classify")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    expected = f"this port speaks HTTP/JSON, not gRPC; gRPC is on port {port(services.classifier)}"
    assert error.details() == expected
    assert details(error)["ErrorInfo"].reason == "NOT_SERVED"


def test_an_http_1_client_at_the_grpc_port_learns_the_http_port(services: Services) -> None:
    text = "this port speaks gRPC"
    found = curl("--http1.1", f"http://{services.classifier}/v1/model")
    assert found == ("400", f"{text}; HTTP is served on port {port(services.rest)}\n")
    body = ("--data", "x" * 100_000)
    assert curl("--http1.1", *body, f"http://{services.classifier}/") == found
    # This encoder has no HTTP listener.
    assert curl("--http1.1", f"http://{services.encoder}/livez") == ("400", f"{text}\n")


@pytest.mark.parametrize("kind", ["application/json", "application/grpc-web", "application/grpc-web-text+proto", ""])
def test_http_2_at_the_grpc_port_needs_the_content_type_of_grpc(services: Services, kind: str) -> None:
    url = f"http://{services.classifier}/{CLASSIFIER}/Classify"
    request = ("--http2-prior-knowledge", "--header", f"content-type: {kind}", "--data", "{}")
    status, body = curl(*request, url)
    expected = f"expected content-type application/grpc, found {kind or 'none'}; this port speaks gRPC; "
    assert (status, body) == ("415", f"{expected}HTTP is served on port {port(services.rest)}\n")


@contextlib.contextmanager
def classifier_with_encoder(url: str, log: Path) -> Iterator[str]:
    """Runs a classifier that finds no encoder at `url`, and yields its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [BINARIES / "classifier-svc", "serve", "--listen", address, "--rest-listen", "", "--encoder", url]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        yield address
    finally:
        process.kill()
        process.wait()


def test_a_classifier_says_what_answers_in_place_of_an_encoder(services: Services, tmp_path: Path) -> None:
    http = services.rest.removeprefix("http://")
    for encoder, reason in (
        (services.classifier, "that is a classifier, not an encoder"),
        (http, "that is not an encoder: this port speaks HTTP/JSON, not gRPC"),
    ):
        log = tmp_path / f"{port(encoder)}.log"
        with classifier_with_encoder(f"http://{encoder}", log) as address:

            def warnings(log: Path = log) -> list[str]:
                return [line for line in log.read_text().splitlines() if "encoder does not answer" in line]

            wait_for(lambda: bool(warnings()), "the log says that the encoder does not answer", 60)
            assert f"http://{encoder}" in warnings()[0], warnings()
            assert reason in warnings()[0], warnings()
            with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
                ReflectionClient(channel).call(CLASSIFIER, "Classify", overview="A storm.")
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason in (raised.value.details() or "")


def test_the_command_line_says_what_answers(services: Services) -> None:
    for address, reason in (
        (services.encoder, "that is an encoder, not a classifier"),
        (services.rest.removeprefix("http://"), "that is not a classifier: this port speaks HTTP/JSON, not gRPC"),
    ):
        command = [BINARIES / "classifier-svc", "classify", "--address", f"http://{address}", "--overview", "A storm."]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert result.returncode == 1
        assert f"http://{address}: {reason}" in result.stderr
