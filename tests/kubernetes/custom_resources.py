"""Checks custom resources with the types and validators of npm's @kubernetes-models, which are made from the operators' sources.

The types find unknown fields, which a validator accepts, and a validator checks lengths and patterns, which types cannot.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from manifests import ROOT, Manifest

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


def has_node() -> bool:
    try:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except FileNotFoundError:
        return False
    return tuple(map(int, re.findall(r"\d+", version))) >= (20, 19)


def errors(manifests: list[Manifest], folder: Path) -> str:
    """Returns what is wrong with these custom resources, or an empty string. Skips the test without Node.js."""
    if not has_node() or not (INSTALLED / "node_modules").is_dir():
        pytest.skip("needs Node.js 20.19 or later and npm: run `make test-deploy`")
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(INSTALLED / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    types, validated = [], []
    for number, manifest in enumerate(manifests):
        group, _, version = manifest["apiVersion"].partition("/")
        kind, module = manifest["kind"], f"{PACKAGES[group]}/{group}/{version}/{manifest['kind']}"
        literal = json.dumps(manifest, indent=1)
        types.append(f'import type {{ I{kind} as I{number} }} from "{module}";\nexport const c{number}: I{number} = {literal};\n')
        validated.append(f'import {{ {kind} as C{number} }} from "{module}";\nnew C{number}({literal}).validate();\n')
    (folder / "types.ts").write_text("".join(types), encoding="utf-8")
    (folder / "validated.mjs").write_text("".join(validated), encoding="utf-8")
    found = ""
    for command in ([modules / "typescript/bin/tsc", *TSC, "types.ts"], ["validated.mjs"]):
        done = subprocess.run(["node", *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            found += done.stdout + done.stderr
    return found
