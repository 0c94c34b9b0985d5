"""Clients that generators make from /openapi.json compile, have one type of problems, and classify."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Services, free_port, start, stop, wait_until_serving
from client_tools import TOOLS, node_tool, python_tool

HERE = Path(__file__).resolve().parent
KEY = "generated"
EXPECTED = {
    "one": ["Western"],
    "scores": 20,
    "segments": ["title", "overview"],
    "labels": 20,
    "reference": 1,
    "blank": {"status": 400, "reason": "EMPTY_TEXT", "fields": ["overview"]},
}


@dataclass(frozen=True)
class Api:
    """A running service that asks for an API key, and its description."""

    address: str
    description: Path


@pytest.fixture(scope="module")
def api(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    settings = folder / "settings.toml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    settings.write_text(f'[[auth.keys]]\nname = "generated"\nsha256 = "{digest}"\n', encoding="utf-8")
    address, rest = (f"127.0.0.1:{free_port()}" for _ in range(2))
    listeners = ("--listen", address, "--rest-listen", rest, "--encoder", f"http://{services.encoder}")
    process = start("classifier-svc", "serve", "--config", str(settings), *listeners)
    try:
        wait_until_serving(address, process)
        with urllib.request.urlopen(f"http://{rest}/openapi.json", timeout=10) as response:
            (folder / "openapi.json").write_bytes(response.read())
        yield Api(f"http://{rest}", folder / "openapi.json")
    finally:
        stop(process)


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Runs a command, expects success, and returns its standard output."""
    path = os.pathsep.join([str(TOOLS / "python" / "bin"), os.environ["PATH"]])
    environment = os.environ | {"PATH": path} | variables
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(received: dict[str, Any]) -> None:
    assert received["one"][0] == received["many"][1][0] == "Western"
    assert received["many"] == [received["many"][0], received["one"]]
    assert {key: received[key] for key in EXPECTED if key != "one"} == {k: v for k, v in EXPECTED.items() if k != "one"}
    assert (received["unauthorized"]["status"], received["unauthorized"]["reason"]) == (401, "UNAUTHENTICATED")


def problems(names: list[str]) -> set[str]:
    return {name for name in names if "Problem" in name}


def test_python_client_passes_mypy_and_classifies(api: Api, tmp_path: Path) -> None:
    generate, mypy = python_tool("openapi-python-client"), python_tool("mypy")
    run(generate, "generate", "--path", api.description, "--output-path", tmp_path / "client", cwd=tmp_path)
    package = tmp_path / "client" / "movie_classifier_client"
    shutil.copy(HERE / "program.py", tmp_path / "client")
    run(mypy, "--strict", "program.py", package.name, cwd=package.parent)
    classes = re.findall(r"(?m)^class (\w+)", "\n".join(p.read_text("utf-8") for p in package.glob("models/*.py")))
    assert problems(classes) == {"Problem", "FieldProblem"}
    check(json.loads(run(python_tool("python"), "program.py", api.address, KEY, cwd=package.parent)))


def test_typescript_client_compiles_and_classifies(api: Api, tmp_path: Path) -> None:
    generate, compiler = node_tool("openapi-ts"), node_tool("tsc")
    for name in ("package.json", "tsconfig.json", "openapi-ts.config.mjs", "program.ts"):
        shutil.copy(HERE / name, tmp_path)
    shutil.copy(api.description, tmp_path)
    (tmp_path / "node_modules").symlink_to(TOOLS / "node" / "node_modules")
    run(generate, cwd=tmp_path)
    run(compiler, "--project", ".", cwd=tmp_path)
    types = re.findall(r"(?m)^export type (\w+)", (tmp_path / "client" / "types.gen.ts").read_text(encoding="utf-8"))
    assert problems(types) == {"Problem", "FieldProblem"}
    received = json.loads(run("node", "built/program.js", api.address, KEY, cwd=tmp_path))
    assert all(received.pop("oneProblem"))
    check(received)
