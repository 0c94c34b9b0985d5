"""Generates the stubs from the .proto files when the package is built, so they cannot fall behind.

hatchling calls the hook. It needs grpcio-tools for the messages and calls, and mypy-protobuf for their types.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "movieclassifier"


def generate(root: Path, out: Path) -> list[Path]:
    """Writes the stubs of every .proto file to `out`. Returns their paths.

    Args:
        root: the folder of this package.
        out: an empty folder.

    Raises:
        RuntimeError: the definitions of the services are missing, or the compiler failed.
    """
    # A source archive has all definitions in `proto`. A checkout has those of the services in another folder.
    folders = [folder for folder in (root / "proto", root / "../../proto/proto") if folder.is_dir()]
    # The Open Inference Protocol has clients of its own.
    found = [(folder, file) for folder in folders for file in folder.glob("movieclassifier/**/*.proto")]
    files = sorted({str(file.relative_to(folder)) for folder, file in found})
    if not any(file.endswith("classifier_service.proto") for file in files):
        raise RuntimeError(f"no definition of the service in {', '.join(map(str, folders))}: build in a whole checkout")
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{folder}" for folder in folders), *outputs, *files]
    # Build environments have the plugins beside the interpreter, not always in the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    if result.returncode != 0:
        raise RuntimeError(f"protoc failed: {result.stderr}")
    for folder in {file.parent for file in out.rglob("*.py")} - {out / PACKAGE}:
        for level in [folder, *folder.parents]:
            if level == out / PACKAGE:
                break
            (level / "__init__.py").write_text('"""Generated from the .proto files."""\n')
    return sorted(path for path in out.rglob("*") if path.is_file())


class StubsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the stubs to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates the stubs: into the sources for an editable install, otherwise into a temporary folder."""
        root = Path(self.root)
        if version == "editable":
            generate(root, root / "src")
            return
        self._folder = tempfile.TemporaryDirectory()
        out = Path(self._folder.name)
        for file in generate(root, out):
            build_data["force_include"][str(file)] = str(file.relative_to(out))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Removes the temporary folder."""
        if version != "editable":
            self._folder.cleanup()
