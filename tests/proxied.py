"""The example proxies of deploy/proxies, in front of a classifier that pages of another origin may call."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, self_signed
from conftest import ROOT, Services, free_port, start, stop, wait_until_serving
from waiting import wait_for

EXAMPLES = ROOT / "deploy" / "proxies"
ORIGIN = "https://movies.example"
JSON = {"content-type": "application/json"}


def nginx(folder: Path, text: str) -> list[str]:
    # The folders of temporary files that are compiled in belong to root.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds) + "access_log off;"
    (folder / "nginx.conf").write_text(text.replace("http {", "http {" + own, 1), encoding="utf-8")
    directives = f"daemon off; pid {folder / 'pid'};"
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr", "-g", directives]


def haproxy(folder: Path, text: str) -> list[str]:
    (folder / "haproxy.cfg").write_text(text, encoding="utf-8")
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


PROXIES: dict[str, tuple[str, Callable[[Path, str], list[str]]]] = {
    "nginx": ("nginx.conf", nginx),
    "haproxy": ("haproxy.cfg", haproxy),
}


@dataclass(frozen=True)
class Proxy:
    """A running proxy and the certificate that it shows."""

    port: int
    certificate: Certificate

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=60, context=self.certificate.client("http/1.1")
        )
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        status, received, content = self.request("POST", path, json.dumps(body).encode(), JSON | headers)
        return status, received, json.loads(content)


@pytest.fixture(scope="module")
def open_classifier(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of the gRPC and the HTTP listener of a classifier that pages of another origin may call."""
    settings = tmp_path_factory.mktemp("settings") / "settings.toml"
    settings.write_text(f'[rest]\ncors_origins = ["{ORIGIN}"]\n', encoding="utf-8")
    address, rest = (f"127.0.0.1:{free_port()}" for _ in range(2))
    encoder = ("--encoder", f"http://{services.encoder}")
    listeners = ("--listen", address, "--rest-listen", rest)
    process = start("classifier-svc", "serve", "--config", str(settings), *listeners, *encoder)
    try:
        wait_until_serving(address, process)
        yield address, rest
    finally:
        stop(process)


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, open_classifier: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    file, command = PROXIES[request.param]
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    certificate = self_signed(folder)
    both = certificate.certificate.read_text(encoding="utf-8") + certificate.key.read_text(encoding="utf-8")
    (folder / "site.pem").write_text(both, encoding="utf-8")
    grpc_address, rest = open_classifier
    here = {
        "127.0.0.1:50052": grpc_address,
        "127.0.0.1:8081": rest,
        "check port 8081": f"check port {rest.rpartition(':')[2]}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "bind :443": f"bind 127.0.0.1:{port}",
        "site.crt": str(certificate.certificate),
        "site.key": str(certificate.key),
        "site.pem": str(folder / "site.pem"),
    }
    text = (EXAMPLES / file).read_text(encoding="utf-8")
    for example, actual in here.items():
        text = text.replace(example, actual)
    process = subprocess.Popen(command(folder, text), cwd=folder)
    try:
        wait_for(lambda: listens(port, process), f"{request.param} listens")
        running = Proxy(port, certificate)
        # HAProxy checks the backend first.
        wait_for(lambda: running.request("GET", "/movies/readyz")[0] == 200, f"{request.param} reaches the classifier")
        yield running
    finally:
        process.terminate()
        process.wait(timeout=10)


def listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"the proxy exited with {process.returncode}"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
