"""Runs Prometheus on the running pair with the shipped configuration."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import free_port
from metrics_table import OBSERVABILITY

DEFAULT_TARGETS = {"encoder-svc": "127.0.0.1:9464", "classifier-svc": "127.0.0.1:8081"}


class Prometheus:
    """Prometheus' HTTP API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **parameters: str) -> Any:
        """Returns the data of a response. Fails on an error."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                body = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters or path}: {error.read().decode()}") from error
        assert body["status"] == "success" and not body.get("warnings"), body
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Returns the current series of an expression."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result

    def is_ready(self) -> bool:
        """Returns whether Prometheus serves. While its storage starts, every path of the API returns 503."""
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=10):
                return True
        except OSError:  # Includes `HTTPError`.
            return False


def configuration(targets: dict[str, str]) -> str:
    """Returns the shipped configuration with other addresses and short intervals."""
    text = (OBSERVABILITY / "prometheus.yml").read_text()
    for service, default in DEFAULT_TARGETS.items():
        assert text.count(default) == 1, f"the default target of {service} is {default}"
        text = text.replace(default, targets[service])
    assert text.count(": 15s\n") == 2
    return text.replace(": 15s\n", ": 1s\n").replace("- rules/", f"- {OBSERVABILITY}/rules/")


@contextmanager
def running(targets: dict[str, str], folder: Path) -> Iterator[Prometheus]:
    """Runs Prometheus for the duration of the block. It writes only to `folder`."""
    settings = folder / "prometheus.yml"
    settings.write_text(configuration(targets))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "GOMAXPROCS": "1"})
    try:
        yield Prometheus(address)
        assert process.poll() is None, f"Prometheus exited with {process.returncode}"
    finally:
        process.terminate()
        process.wait(timeout=30)
