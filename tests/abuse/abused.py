"""Pairs of services that every test here attacks, and that must be healthy after each test: one plain, one with TLS."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import proc
import pytest
from certificates import Certificate, self_signed
from conftest import BINARIES, ROOT, free_port, wait_until_serving
from http2 import Connection
from patient import Patient
from reflection import ReflectionClient

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
ENCODER = "movieclassifier.encoder.v1.EncoderService"
# The response time of a well-behaved call during an attack, for a debug build on a busy machine.
PROMPT_SECONDS = 3.0
REST_TIMEOUT_SECONDS = 2
DRAIN_SECONDS = 2
MIB = 1 << 20
# The tests of ten thousand connections look at what each takes, not at the limit.
MANY_CONNECTIONS = "max_connections = 20000\n"
# h2 asserts this in debug builds only, when a connection ends after clients have broken its protocol. Nothing else is lost.
DEBUG_ASSERTION = "h2-0.4.20/src/proto/streams/counts.rs"
OVER_PLAIN_AND_TLS = pytest.mark.parametrize("pair", ["plain", "tls"], indirect=True)
"""Runs a test, or all of a file as `pytestmark`, against a pair without TLS and a pair with TLS."""
FRESH_OVER_PLAIN_AND_TLS = pytest.mark.parametrize("fresh_pair", ["plain", "tls"], indirect=True)


@dataclass
class Service:
    """A running binary and its log."""

    process: subprocess.Popen[bytes]
    grpc: str
    http: str
    log: Path
    tls: Certificate | None = None

    def address(self, listener: str) -> str:
        """Returns the address of the listener "grpc" or "http"."""
        return self.grpc if listener == "grpc" else self.http

    def connect(self, listener: str, *, protocol: str = "h2", **options: Any) -> Connection:
        """Opens a raw connection, which speaks `protocol` over TLS if the service has a certificate."""
        tls = None if self.tls is None else self.tls.client(protocol)
        return Connection(self.address(listener), tls=tls, **options)

    def channel(self) -> grpc.Channel:
        """Opens a gRPC channel, which uses a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self.tls is None:
            return grpc.insecure_channel(self.grpc, options=options)
        credentials = grpc.ssl_channel_credentials(self.tls.certificate.read_bytes())
        return grpc.secure_channel(self.grpc, credentials, options=options)

    def http_1(self, timeout: float = PROMPT_SECONDS) -> http.client.HTTPConnection:
        """Returns an HTTP/1 client, which connects at its first request."""
        if self.tls is None:
            return http.client.HTTPConnection(self.http, timeout=timeout)
        return http.client.HTTPSConnection(self.http, timeout=timeout, context=self.tls.client())

    def get(self, path: str, timeout: float = PROMPT_SECONDS, **headers: str) -> int:
        """Returns the status of a GET on a new connection."""
        connection = self.http_1(timeout)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def resident(self) -> int:
        return proc.resident(self.process.pid)

    def descriptors(self) -> int:
        return proc.descriptors(self.process.pid)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def limit_descriptors(self, most: int) -> None:
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (most, hard))

    def lines(self, text: str) -> int:
        return sum(text in line for line in self.log.read_text(errors="replace").splitlines())

    def assert_no_panic(self) -> None:
        assert self.process.poll() is None, f"the service exited with {self.process.returncode}: {self.tail()}"
        log = self.log.read_text(errors="replace").splitlines()
        panics = [line for line in log if "panicked" in line and DEBUG_ASSERTION not in line]
        assert panics == [], self.tail()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


@dataclass(eq=False)
class Pair:
    """An encoder and a classifier that uses it."""

    encoder: Service
    classifier: Service
    patient: Patient | None = None

    def both(self) -> tuple[Service, Service]:
        return self.encoder, self.classifier

    def classify(self, overview: str = "A storm is coming.", timeout: float = PROMPT_SECONDS) -> None:
        """Classifies on a new connection, which the service must accept."""
        with self.classifier.channel() as channel:
            ReflectionClient(channel).call(CLASSIFIER, "Classify", timeout=timeout, overview=overview)

    def encode(self, text: str = "A storm is coming.", timeout: float = PROMPT_SECONDS) -> None:
        with self.encoder.channel() as channel:
            ReflectionClient(channel).call(ENCODER, "Encode", timeout=timeout, texts=[text])

    def post(
        self, body: bytes | str | dict[str, object], path: str = "/v1/movies:classify", **headers: str
    ) -> tuple[int, dict[str, object]]:
        """Returns the status and the JSON of a REST response."""
        connection = self.classifier.http_1()
        raw = json.dumps(body) if isinstance(body, dict) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("POST", path, raw, {"content-type": "application/json", **named})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def assert_others_are_served(self) -> None:
        """Checks that every listener serves a well-behaved call promptly."""
        self.encode()
        self.classify()
        assert self.post({"overview": "A storm is coming."})[0] == 200
        for service in self.both():
            assert service.get("/livez") == 200
            service.assert_no_panic()


def start(
    folder: Path, name: str, settings: str, tls: Certificate | None = None, environment: dict[str, str] | None = None
) -> Service:
    """Starts a service. `settings` has the placeholders {grpc} and {http} for addresses."""
    grpc_address, http_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    file, log = folder / f"{name}.toml", folder / f"{name}.log"
    text = settings.format(grpc=grpc_address, http=http_address)
    file.write_text(text + (tls.settings() if tls else ""))
    # Settings in the environment of the test run must not reach the services, nor may a backtrace take memory.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ENCODER_SVC_", "CLASSIFIER_SVC_"))}
    with log.open("wb") as sink:
        command = [BINARIES / name, "serve", "--config", file]
        # A session of its own gives the service its own share of the processor, as a container has (Linux groups processes by
        # session): the encoder's niced workers then yield to the encoder's own threads, not to the classifier's.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=inherited | {"RUST_BACKTRACE": "0"} | (environment or {}),
            start_new_session=True,
        )
    authority = tls.certificate.read_bytes() if tls else None
    wait_until_serving(grpc_address, process, authority)
    return Service(process, grpc_address, http_address, log, tls)


def start_pair(
    folder: Path, tls: Certificate | None = None, *, more: str = "", rest_seconds: float = REST_TIMEOUT_SECONDS
) -> Pair:
    """Starts an encoder and a classifier. `more` is added to the settings of both."""
    encoder = start(
        folder,
        "encoder-svc",
        f'listen = "{{grpc}}"\n{MANY_CONNECTIONS}drain_seconds = {DRAIN_SECONDS}\n[http]\nlisten = "{{http}}"\n{MANY_CONNECTIONS}[encoder]\nsessions = 1\n{more}',
        tls,
    )
    scheme, authority = ("https", f'[encoder.tls]\nca = "{tls.certificate}"\n') if tls else ("http", "")
    classifier = start(
        folder,
        "classifier-svc",
        f'listen = "{{grpc}}"\n{MANY_CONNECTIONS}drain_seconds = {DRAIN_SECONDS}\n[rest]\nlisten = "{{http}}"\n{MANY_CONNECTIONS}timeout_seconds = {rest_seconds}\n'
        f'[encoder]\nurl = "{scheme}://{encoder.grpc}"\n{authority}{more}',
        tls,
    )
    return Pair(encoder, classifier)


def kill(service: Service) -> None:
    service.process.send_signal(signal.SIGKILL)
    service.process.wait(timeout=10)


_running: dict[str, Pair] = {}


def shared_pair(transport: str, config: pytest.Config) -> Pair:
    """Returns the pair without TLS ("plain") or with it ("tls"). The first use starts it."""
    if transport not in _running:
        folder = tempfile.TemporaryDirectory(prefix="abuse")
        path = Path(folder.name)
        started = start_pair(path, self_signed(path) if transport == "tls" else None)
        _running[transport] = started

        def end() -> None:
            if _running.pop(transport, None) is started:
                for service in started.both():
                    kill(service)
            folder.cleanup()

        config.add_cleanup(end)
        started.assert_others_are_served()
        started.patient = Patient(started.classifier)
    return _running[transport]


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """The pair that all files share, so each test meets what earlier ones left. It must be healthy after each test."""
    # A session fixture imported by several files would be a separate one in each.
    transport = getattr(request, "param", "plain")
    now = shared_pair(transport, request.config)
    before = [service.resident() for service in now.both()]
    yield now
    if transport not in _running:
        return
    now.assert_others_are_served()
    grown = [(service.resident() - then) / MIB for service, then in zip(now.both(), before, strict=True)]
    print("memory afterwards: encoder {:+.1f} MiB, classifier {:+.1f} MiB".format(*grown))


@pytest.fixture
def fresh_pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """A pair that no other test has used, for figures of memory. Its REST timeout is the default."""
    tls = self_signed(tmp_path) if getattr(request, "param", "plain") == "tls" else None
    now = start_pair(tmp_path, tls, rest_seconds=30)
    try:
        now.assert_others_are_served()
        yield now
        now.assert_others_are_served()
    finally:
        for service in now.both():
            kill(service)


def end_of_all(pair: Pair) -> None:
    """Leaves stopping the pair to the caller."""
    for transport in [name for name, running in _running.items() if running is pair]:
        del _running[transport]
