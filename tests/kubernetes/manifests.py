"""Renders the manifests with `kubectl kustomize`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).parent / "kubectl"
BINARIES = Path(os.environ.get("BINARIES", ROOT / "target" / "debug"))

Manifest = dict[str, Any]

COMPONENTS = sorted(path.parent.name for path in KUBERNETES.glob("components/*/kustomization.yaml"))
OVERLAYS = sorted(
    str(path.parent.relative_to(KUBERNETES))
    for pattern in ("overlays/*/kustomization.yaml", "trainer/*/kustomization.yaml")
    for path in KUBERNETES.glob(pattern)
    if path.parent.name != "common"
)
# Components are rendered on top of production, where they are used: each alone, and all together in both orders. Models come
# from one place only.
TOGETHER = [component for component in COMPONENTS if component != "models-from-claim"]
JOBS = [name for name in OVERLAYS if name.startswith("trainer/") and name != "trainer/claim"]
ALL = OVERLAYS + [
    f"overlays/production+{selected}"
    for selected in (*COMPONENTS, "+".join(TOGETHER), "+".join(reversed(TOGETHER)))
]
CALLING = [name for name in JOBS if name != "trainer/fit"]
ALL += [f"{name}+small" for name in JOBS] + ["trainer/encode+priority+image-pull-secret"]
ALL += [f"{name}+{selected}" for name in CALLING for selected in ("tls", "api-keys", "tls+api-keys")]


@cache
def rendered_text(name: str) -> str:
    """Returns what `kubectl apply -k` would apply. `OVERLAY+COMPONENT+…` is an overlay with components."""
    overlay, *components = name.split("+")
    if not components:
        return kustomize(KUBERNETES / overlay)
    with tempfile.TemporaryDirectory() as folder:
        here = os.path.relpath(KUBERNETES, os.path.realpath(folder))
        selected = [f"{here}/components/{component}" for component in components]
        kustomization = {"resources": [f"{here}/{overlay}"], "components": selected}
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return kustomize(Path(folder))


def kustomize(folder: Path) -> str:
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(name: str) -> list[Manifest]:
    """Returns the manifests of an overlay. They are shared, so copy one before you change it."""
    return list(yaml.load_all(rendered_text(name), Loader=yaml.CSafeLoader))


def of_kind(name: str, *kinds: str) -> list[Manifest]:
    return [manifest for manifest in rendered(name) if manifest["kind"] in kinds]


def named(name: str, kind: str, of: str) -> Manifest:
    (found,) = (manifest for manifest in of_kind(name, kind) if manifest["metadata"]["name"] == of)
    return found


def workloads(name: str) -> list[Manifest]:
    return of_kind(name, "Deployment", "Job")


def pod(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def settings_file(name: str, workload: Manifest) -> str:
    """Returns the settings file that the pod mounts at /etc/movieclassifier."""
    (volume,) = (volume for volume in pod(workload)["volumes"] if volume["name"] == "settings")
    (text,) = named(name, "ConfigMap", volume["configMap"]["name"])["data"].values()
    return str(text)


def hashed(name: str, key: str, **options: object) -> str:
    return json.dumps([{"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **options}])


# Secrets as the component `api-keys` describes them.
SECRETS = {
    "classifier-keys": {"keys": hashed("website", "website's key", requests_per_second=50)},
    "encoder-keys": {
        "keys": json.dumps(
            [*json.loads(hashed("classifier", "one", forwards_callers=True)), *json.loads(hashed("trainer", "two"))]
        ),
        "classifier": "one",
        "trainer": "two",
    },
}


def variables_of(container: Manifest) -> dict[str, str]:
    """Returns the environment variables of a container, with what Kubernetes inserts: the CPU limit,
    labels of the pod and Secrets."""

    def value(variable: Manifest) -> str:
        if "value" in variable:
            return str(variable["value"])
        if "fieldRef" in variable["valueFrom"]:
            return "zone-of-the-node"
        if "secretKeyRef" in variable["valueFrom"]:
            reference = variable["valueFrom"]["secretKeyRef"]
            return SECRETS[reference["name"]][reference["key"]]
        return str(container["resources"]["limits"]["cpu"])

    return {variable["name"]: value(variable) for variable in container.get("env", [])}
