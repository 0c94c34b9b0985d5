"""A Docker engine for tests: the running one, or a private one that stops after the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
COMPOSE_FILE = ROOT / "deploy" / "compose" / "compose.yaml"
# Layers are kept between runs, like other downloads. `make clean` removes them.
DATA = ROOT / ".runtime" / "docker"
START_SECONDS = 60
BUILD_SECONDS = 45 * 60
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Engine:
    """A running engine and its clients."""

    client: str
    compose_client: tuple[str, ...]
    host: str | None
    """The address of a private engine."""
    environment: dict[str, str] = field(default_factory=dict)

    def _run(self, command: list[str], timeout: float, check: bool, variables: dict[str, str]) -> str:
        environment = os.environ | self.environment | variables
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
        return (done.stdout + (done.stderr if command[1] == "logs" else "")).strip()

    def docker(self, *arguments: str | Path, timeout: float = 120, check: bool = True) -> str:
        return self._run([self.client, *map(str, arguments)], timeout, check, {})

    def compose(self, project: str, *arguments: str, timeout: float = 300, **variables: str) -> str:
        command = [*self.compose_client, "-p", project, "-f", str(COMPOSE_FILE), *arguments]
        return self._run(command, timeout, True, variables)

    def build(self, tag: str, *arguments: str | Path, timeout: float = BUILD_SECONDS) -> None:
        """Runs `docker build` with this machine's network and proxies."""
        proxies = [part for name in PROXIES if name in os.environ for part in ("--build-arg", name)]
        self.docker("build", "--quiet", "--network", "host", "--tag", tag, *proxies, *arguments, timeout=timeout)

    def base_images(self, prefix: str) -> None:
        script = [str(ROOT / "deploy" / "docker" / "base_images.sh"), prefix]
        self._run(script, 900, True, {"DOCKER": self.client})


def works(*command: str, host: str | None = None) -> bool:
    environment = os.environ | ({"DOCKER_HOST": host} if host else {})
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode == 0
    return False


def client_with_buildkit() -> str | None:
    """Returns the first `docker` on PATH with BuildKit, which is a plugin since version 23."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, "docker")
        if not os.access(path, os.X_OK):
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
        words = version.removeprefix("Docker version ").split(".")
        if (words[0].isdigit() and int(words[0]) < 23) or works(path, "buildx", "version"):
            return path
    return None


def compose_client(docker: str) -> tuple[str, ...] | None:
    for command in (("docker-compose",), (docker, "compose")):
        if shutil.which(command[0]) and works(*command, "version"):
            return command
    return None


def skip(reason: str) -> NoReturn:
    """Prints the reason once for all tests. pytest's summary would repeat it for each."""
    print(f"skipped: {reason}")
    pytest.skip(reason)


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Yields an engine. Skips the tests if none can run."""
    client = client_with_buildkit()
    if client is None:
        skip("no docker client with BuildKit on PATH: install docker.io")
    compose = compose_client(client)
    if compose is None:
        skip("no Compose on PATH: install docker-compose")
    environment = {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"}
    if works(client, "version"):
        yield Engine(client, compose, None, environment)
        return
    with own_engine(client) as host:
        yield Engine(client, compose, host, environment | {"DOCKER_HOST": host})


@contextlib.contextmanager
def own_engine(client: str) -> Iterator[str]:
    """Yields the address of a dockerd that stops after the block."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        skip("no Docker engine is running, and only root with dockerd on PATH can start one")
    DATA.mkdir(parents=True, exist_ok=True)
    bridge = Path("/sys/class/net/docker0")
    had_bridge = bridge.exists()
    # Socket paths must be short.
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        host, log = f"unix://{folder}/docker.sock", Path(folder, "log")
        command = ["dockerd", "--data-root", str(DATA), "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
        with log.open("wb") as output:
            daemon = subprocess.Popen([*command, "-H", host], stdout=output, stderr=output, start_new_session=True)
        try:
            end = time.monotonic() + START_SECONDS
            while not works(client, "version", host=host):
                if daemon.poll() is not None or time.monotonic() > end:
                    lines = log.read_text(errors="replace").splitlines() or ["no output"]
                    skip(f"the Docker engine did not start: {lines[-1]}")
                time.sleep(0.2)
            yield host
        finally:
            daemon.terminate()
            try:
                daemon.wait(timeout=60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            if not had_bridge and bridge.exists() and shutil.which("ip"):
                subprocess.run(["ip", "link", "delete", "docker0"], check=False)
