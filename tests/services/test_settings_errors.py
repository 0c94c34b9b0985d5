"""Settings as people and platforms write them: what is absent, what is accepted, and errors that name their place."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import BINARIES, ROOT

SERVICES = ("encoder-svc", "classifier-svc")
service = pytest.mark.parametrize("service", SERVICES)


def run(service: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Runs `serve` until it ends; it must, because of --print-config or an error."""
    inherited = {k: v for k, v in os.environ.items() if "_SVC_" not in k and k != "RUST_LOG"}
    done = subprocess.run(
        [BINARIES / service, "serve", *arguments],
        cwd=ROOT,
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def prefix(service: str) -> str:
    return service.upper().replace("-", "_") + "_"


def printed(service: str, **settings: str) -> str:
    """The effective settings with variables of these keys, such as LOG__FORMAT."""
    status, text = run(service, "--print-config", **{prefix(service) + key: value for key, value in settings.items()})
    assert status == 0, text
    return text


def rejected(service: str, **settings: str) -> str:
    status, text = run(service, "--print-config", **{prefix(service) + key: value for key, value in settings.items()})
    assert status == 1, f"accepted {settings}"
    assert len(text.splitlines()) == 1, text
    return text


@service
def test_an_empty_variable_is_absent(service: str) -> None:
    optional = ["TLS__CERTIFICATE", "TLS__KEY", "TLS__CLIENT_CA", "AUTH__KEYS", "DRAIN_SECONDS", "MAX_CONNECTIONS"]
    optional += ["ENCODER__RUNTIME_LIBRARY"] if service == "encoder-svc" else []
    if service == "classifier-svc":
        optional += ["ENCODER__API_KEY", "ENCODER__API_KEY_FILE", "ENCODER__TLS__CA", "REST__CORS_ORIGINS"]
    assert printed(service, **dict.fromkeys(optional, "")) == printed(service)
    with_rust_log = run(service, "--print-config", RUST_LOG="")
    assert with_rust_log == (0, printed(service))


@service
def test_an_empty_path_in_the_file_is_absent(service: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[tls]\ncertificate = ""\nkey = ""\nclient_ca = ""\n')
    assert run(service, "--print-config", "--config", str(file)) == (0, printed(service))


@service
def test_a_word_may_be_in_any_case_and_an_unknown_one_gets_the_list(service: str) -> None:
    assert printed(service, LOG__FORMAT="JSON") == printed(service, LOG__FORMAT="json")
    message = rejected(service, LOG__FORMAT="xml")
    assert all(part in message for part in ("log.format", "xml", "text", "json")), message
    if service == "encoder-svc":
        assert printed(service, ENCODER__DEVICE="CUDA") == printed(service, ENCODER__DEVICE="cuda")
        message = rejected(service, ENCODER__DEVICE="gpu")
        assert all(part in message for part in ("encoder.device", "gpu", "cpu", "cuda")), message


@service
def test_a_broken_log_filter_is_rejected_at_start(service: str) -> None:
    message = rejected(service, LOG__FILTER="info,ort=loud")
    assert "setting log.filter" in message and "ort=loud" in message, message
    for wrong in ("info,ort=loud", "inof"):
        status, message = run(service, "--listen", "127.0.0.1:0", RUST_LOG=wrong)
        assert status == 1 and "environment variable RUST_LOG" in message and wrong in message, message


def test_two_sources_of_one_key_are_rejected(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k")
    message = rejected("classifier-svc", ENCODER__API_KEY="k", ENCODER__API_KEY_FILE=str(file))
    assert "setting encoder.api_key: expected a key here or in encoder.api_key_file, found both" in message, message


IMPOSSIBLE = [
    ("classifier-svc", "REST__TIMEOUT_SECONDS", "0"),
    ("classifier-svc", "ENCODER__TIMEOUT_SECONDS", "0"),
    ("classifier-svc", "ENCODER__RESOLVE_SECONDS", "0"),
    ("classifier-svc", "MODEL_POLL_SECONDS", "0"),
    ("classifier-svc", "DRAIN_SECONDS", "2000000000"),
    ("classifier-svc", "DRAIN_SECONDS", "inf"),
    ("classifier-svc", "DRAIN_SECONDS", "NaN"),
    ("classifier-svc", "LIMITS__MAX_BATCH_SIZE", "0"),
    ("classifier-svc", "LIMITS__STREAM_IN_FLIGHT", "0"),
    ("classifier-svc", "TRACE__SAMPLE_RATIO", "2"),
    ("classifier-svc", "TRACE__ENDPOINT", "collector:4317"),
    ("encoder-svc", "TRACE__ENDPOINT", "http://"),
    ("classifier-svc", "MODEL", ""),
    ("classifier-svc", "REST__CORS_ORIGINS", "https://*.example.com"),
    ("classifier-svc", "REST__CORS_ORIGINS", "https://a.example/app"),
    ("classifier-svc", "REST__ALLOWED_HOSTS", "*.example.com"),
    ("encoder-svc", "ENDPOINT_REMOVAL_SECONDS", "-1"),
    ("encoder-svc", "MAX_CONNECTIONS", "0"),
    ("encoder-svc", "HTTP__MAX_CONNECTIONS", "0"),
    ("encoder-svc", "ENCODER__MAX_QUEUE_MS", "0"),
    ("encoder-svc", "ENCODER__BUNDLE", ""),
    ("encoder-svc", "LIMITS__MAX_TEXT_BYTES", "many"),
    ("encoder-svc", "TRACE__SAMPLE_RATIO", "-0.1"),
    ("encoder-svc", "LISTEN", "localhost"),
]


@pytest.mark.parametrize(("service", "variable", "value"), IMPOSSIBLE)
def test_a_value_that_cannot_work_is_rejected_by_its_key(service: str, variable: str, value: str) -> None:
    message = rejected(service, **{variable: value})
    assert variable.lower().replace("__", ".") in message, message
    assert value in message, message


SERVICE_LINKS = {
    "PORT": "tcp://10.0.0.1:50052",
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "50052",
    "SERVICE_PORT_GRPC": "50052",
    "PORT_50052_TCP": "tcp://10.0.0.1:50052",
    "PORT_50052_TCP_PROTO": "tcp",
    "PORT_50052_TCP_PORT": "50052",
    "PORT_50052_TCP_ADDR": "10.0.0.1",
    "HEADLESS_PORT_50052_TCP_ADDR": "10.0.0.2",
}


@service
def test_links_of_a_kubernetes_service_of_the_same_name_set_nothing(service: str) -> None:
    assert printed(service, **SERVICE_LINKS) == printed(service)


@service
def test_an_unknown_key_names_its_place_and_the_nearest_key(service: str, tmp_path: Path) -> None:
    message = rejected(service, LOG_FORMAT="json")
    name = prefix(service)
    assert f"environment variable {name}LOG_FORMAT" in message and f"did you mean {name}LOG__FORMAT?" in message
    file = tmp_path / "settings.toml"
    file.write_text("[log]\nformt = 'json'\n")
    status, message = run(service, "--print-config", "--config", str(file))
    assert status == 1 and f"settings file {file}" in message and "did you mean log.format?" in message, message
