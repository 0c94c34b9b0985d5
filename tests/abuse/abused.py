"""A pair of services that every test here attacks, and that must be healthy after each test."""

from __future__ import annotations

import http.client
import json
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import proc
import pytest
from conftest import BINARIES, ROOT, free_port, wait_until_serving
from patient import Patient
from reflection import ReflectionClient

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
ENCODER = "movieclassifier.encoder.v1.EncoderService"
# The response time of a well-behaved call during an attack, for a debug build on a busy machine.
PROMPT_SECONDS = 3.0
REST_TIMEOUT_SECONDS = 2
DRAIN_SECONDS = 2
MIB = 1 << 20


@dataclass
class Service:
    """A running binary and its log."""

    process: subprocess.Popen[bytes]
    grpc: str
    http: str
    log: Path

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
        assert self.lines("panicked") == 0, self.tail()

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
        with grpc.insecure_channel(self.classifier.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            ReflectionClient(channel).call(CLASSIFIER, "Classify", timeout=timeout, overview=overview)

    def encode(self, text: str = "A storm is coming.", timeout: float = PROMPT_SECONDS) -> None:
        with grpc.insecure_channel(self.encoder.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            ReflectionClient(channel).call(ENCODER, "Encode", timeout=timeout, texts=[text])

    def post(
        self, body: bytes | str | dict[str, object], path: str = "/v1/movies:classify", **headers: str
    ) -> tuple[int, dict[str, object]]:
        """Returns the status and the JSON of a REST response."""
        connection = http.client.HTTPConnection(self.classifier.http, timeout=PROMPT_SECONDS)
        raw = json.dumps(body) if isinstance(body, dict) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("POST", path, raw, {"content-type": "application/json", **named})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def get(self, service: Service, path: str) -> int:
        connection = http.client.HTTPConnection(service.http, timeout=PROMPT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def assert_others_are_served(self) -> None:
        """Checks that every listener serves a well-behaved call promptly."""
        self.encode()
        self.classify()
        assert self.post({"overview": "A storm is coming."})[0] == 200
        for service in self.both():
            assert self.get(service, "/livez") == 200
            service.assert_no_panic()


def start(folder: Path, name: str, settings: str) -> Service:
    """Starts a service. `settings` has the placeholders {grpc} and {http} for addresses."""
    grpc_address, http_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    file, log = folder / f"{name}.toml", folder / f"{name}.log"
    file.write_text(settings.format(grpc=grpc_address, http=http_address))
    with log.open("wb") as sink:
        command = [BINARIES / name, "serve", "--config", file]
        process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
    wait_until_serving(grpc_address, process)
    return Service(process, grpc_address, http_address, log)


def start_pair(folder: Path) -> Pair:
    encoder = start(
        folder,
        "encoder-svc",
        f'listen = "{{grpc}}"\ndrain_seconds = {DRAIN_SECONDS}\n[http]\nlisten = "{{http}}"\n[encoder]\nsessions = 1\n',
    )
    classifier = start(
        folder,
        "classifier-svc",
        f'listen = "{{grpc}}"\ndrain_seconds = {DRAIN_SECONDS}\n[rest]\nlisten = "{{http}}"\ntimeout_seconds = {REST_TIMEOUT_SECONDS}\n'
        f'[encoder]\nurl = "http://{encoder.grpc}"\n',
    )
    return Pair(encoder, classifier)


def kill(service: Service) -> None:
    service.process.send_signal(signal.SIGKILL)
    service.process.wait(timeout=10)


_running: list[Pair] = []


@pytest.fixture
def pair(pytestconfig: pytest.Config) -> Iterator[Pair]:
    """The pair that all files share, so each test meets what earlier ones left. It must be healthy after each test."""
    # A session fixture imported by several files would be a separate one in each.
    if not _running:
        folder = tempfile.TemporaryDirectory(prefix="abuse")
        _running.append(start_pair(Path(folder.name)))

        def end() -> None:
            for left in _running:
                for service in left.both():
                    kill(service)
            folder.cleanup()

        pytestconfig.add_cleanup(end)
        _running[0].assert_others_are_served()
        _running[0].patient = Patient(_running[0].classifier.grpc, _running[0].classifier.http)
    now = _running[0]
    before = [service.resident() for service in now.both()]
    yield now
    if not _running:
        return
    now.assert_others_are_served()
    grown = [(service.resident() - then) / MIB for service, then in zip(now.both(), before, strict=True)]
    print("memory afterwards: encoder {:+.1f} MiB, classifier {:+.1f} MiB".format(*grown))


def end_of_all() -> None:
    """Leaves stopping the pair to the caller."""
    _running.pop()
