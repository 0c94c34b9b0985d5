"""The package as a user gets it: contents, types, style, and the examples of its README."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import Services

built_package = pytest.importorskip("built_package", reason="needs its own environment: run `make test-python-client`")
from built_package import BUILT, CLIENT, ROOT  # noqa: E402

README = (CLIENT / "README.md").read_text(encoding="utf-8")
# That of Spark is run by `make test-spark`.
EXAMPLES = [text for text in re.findall(r"(?ms)^```python\n(.*?)^```$", README) if "pyspark" not in text]
GENERATED = ("classifier/v1/classifier_service", "encoder/v1/encoder_service", "status")


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def test_the_wheel_has_typed_stubs_of_every_definition() -> None:
    names = set(zipfile.ZipFile(BUILT.wheel).namelist())
    kinds = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
    assert {f"movieclassifier/{stub}{kind}" for stub in GENERATED for kind in kinds} <= names
    assert {"movieclassifier/py.typed", "movieclassifier/classifier/__init__.py"} <= names


def test_the_source_archive_has_the_definitions_and_nothing_generated() -> None:
    with tarfile.open(BUILT.archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    definitions = {f"proto/movieclassifier/{stub}.proto" for stub in GENERATED}
    assert definitions <= names
    assert [name for name in names if "_pb2" in name] == []


@pytest.mark.parametrize("service", ["classifier", "encoder"])
def test_the_stubs_are_of_the_repository_s_definitions(service: str) -> None:
    path = f"movieclassifier/{service}/v1/{service}_service.proto"
    with tarfile.open(BUILT.archive) as tar:
        (member,) = (name for name in tar.getnames() if name.endswith(path))
        packed = tar.extractfile(member)
        assert packed is not None
        assert packed.read() == (ROOT / "proto/proto" / path).read_bytes()


def test_dependencies_are_grpcio_and_protobuf_of_the_compiler_s_version_or_later() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))
    dependencies = project["project"]["dependencies"]
    assert [re.split(r"[<>=]", dependency)[0] for dependency in dependencies] == ["grpcio", "protobuf"]
    tools = next(pin for pin in project["build-system"]["requires"] if pin.startswith("grpcio-tools=="))
    assert dependencies[0] == f"grpcio>={tools.partition('==')[2]}"
    stub = (BUILT.installed / "movieclassifier/status_pb2.py").read_text(encoding="utf-8")
    version = re.search(r"^# Protobuf Python Version: (\S+)$", stub, re.MULTILINE)
    assert version and dependencies[1].startswith(f"protobuf>={version[1]},")


def test_the_build_uses_the_packages_that_the_tests_pin() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = (Path(__file__).parent / "requirements.in").read_text(encoding="utf-8").split()
    assert [pin for pin in project["build-system"]["requires"] if pin not in pins] == []


def test_a_wheel_from_the_checkout_equals_that_from_the_archive(tmp_path: Path) -> None:
    wheel = built_package.build(CLIENT, "wheel", tmp_path)
    assert zipfile.ZipFile(wheel).namelist() == zipfile.ZipFile(BUILT.wheel).namelist()


def test_the_core_needs_no_optional_package() -> None:
    script = """
import sys
sys.modules.update(dict.fromkeys(("numpy", "pandas", "polars", "pyarrow")))
import movieclassifier
from movieclassifier import *
from movieclassifier import cli
try:
    movieclassifier.Encoder
except ModuleNotFoundError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(BUILT.installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout.strip(), result.stderr) == ("Encoder needs numpy: pip install 'movieclassifier[numpy]'", "")


def test_mypy_strict_is_clean(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text(
        "from movieclassifier import Classification, Classifier, Encoder, ServiceError\n\n"
        "def many(classifier: Classifier) -> list[Classification]:\n"
        "    return list(classifier.classify_many(['a']))\n\n"
        "def kept(classifier: Classifier) -> list[Classification | ServiceError]:\n"
        "    return list(classifier.classify_many(['a'], errors='return'))\n\n"
        "def shape(encoder: Encoder) -> tuple[int, ...]:\n"
        "    return encoder.encode(['a']).shape\n"
    )
    settings = ("--strict", "--config-file", str(CLIENT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache"))
    package = str(BUILT.installed / "movieclassifier")
    checked = run("-m", "mypy", *settings, "--python-version", "3.10", package, str(user))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_ruff_is_clean() -> None:
    for check in (("check",), ("format", "--check")):
        result = run("-m", "ruff", *check, "--no-cache", str(CLIENT))
        assert result.returncode == 0, result.stdout + result.stderr


def test_no_module_is_long() -> None:
    long = {
        path.name
        for path in (CLIENT / "src").rglob("*.py")
        if "_pb2" not in path.name and len(path.read_text().splitlines()) > 450
    }
    assert long == set()


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs(services: Services, tmp_path: Path, number: int) -> None:
    text = EXAMPLES[number].replace("127.0.0.1:50052", services.classifier).replace("127.0.0.1:50051", services.encoder)
    assert services.classifier in text or services.encoder in text
    script = tmp_path / "example.py"
    # A first call on a busy machine may take longer than a reader's would.
    script.write_text(text.replace("deadline=5.0", "deadline=60.0"), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(BUILT.installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    # Comments on the lines that print state the output.
    for expected in re.findall(r"(?m)^ *print\(.*\)  # (.+)$", text):
        assert expected in result.stdout.splitlines()
