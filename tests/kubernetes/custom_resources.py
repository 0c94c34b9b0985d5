"""Checks custom resources with the types and validators of npm's @kubernetes-models, which are made from the operators' sources.

The types find unknown fields, which a validator accepts, and a validator checks lengths and patterns, which types cannot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import ROOT, Manifest

# The folder of what suites share is not on the path of this one, because its conftest.py needs other packages.
sys.path.append(str(ROOT / "tests"))

from node_js import has_node  # noqa: E402

INSTALLED = Path(os.environ.get("KUBERNETES_SCHEMAS", ROOT / ".runtime" / "kubernetes-schemas")).absolute()
PACKAGES = {
    "cert-manager.io": "@kubernetes-models/cert-manager",
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
    "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
}
# A stricter reading of the packages' own declarations is not ours to check.
TSC = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"]


def is_custom(manifest: Manifest) -> bool:
    return manifest["apiVersion"].partition("/")[0] in PACKAGES


def program(arguments: list[str | Path], folder: Path) -> str:
    """Runs Node.js and returns what it complains about."""
    done = subprocess.run(
        ["node", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def type_errors(source: str, folder: Path) -> str:
    """Returns the errors of a TypeScript source that may import the installed packages. Skips the test without Node.js."""
    if not has_node() or not (INSTALLED / "node_modules").is_dir():
        pytest.skip("needs Node.js 20.19 or later and npm: run `make test-deploy`")
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(INSTALLED / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "types.ts").write_text(source, encoding="utf-8")
    return program([modules / "typescript/bin/tsc", *TSC, "types.ts"], folder)


def errors(manifests: list[Manifest], folder: Path) -> str:
    """Returns what is wrong with these custom resources, or an empty string. Skips the test without Node.js."""
    types, validated = [], []
    for number, manifest in enumerate(manifests):
        group, _, version = manifest["apiVersion"].partition("/")
        kind, module = manifest["kind"], f"{PACKAGES[group]}/{group}/{version}/{manifest['kind']}"
        literal = json.dumps(manifest, indent=1)
        types.append(f'import type {{ I{kind} as I{number} }} from "{module}";\nexport const c{number}: I{number} = {literal};\n')
        validated.append(f'import {{ {kind} as C{number} }} from "{module}";\nnew C{number}({literal}).validate();\n')
    found = type_errors("".join(types), folder)
    (folder / "validated.mjs").write_text("".join(validated), encoding="utf-8")
    return found + program(["validated.mjs"], folder)
