"""The Helm chart, linted and rendered by Helm itself, equals what kustomize renders."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
helm = pytest.importorskip("helm_python", reason="Helm's library exists for x86_64 only: run `make test-deploy`")
import yaml  # noqa: E402
from helm_python.errors import HelmError  # noqa: E402
from manifests import KUBECTL, KUBERNETES, ROOT, Manifest, kustomize, pod  # noqa: E402

CHART = ROOT / "deploy/helm/movieclassifier"
COMPONENT_OF = {"tls": "tls", "apiKeys": "api-keys", "monitoring": "monitoring-operator"}
COMBINATIONS = [
    chosen for count in range(len(COMPONENT_OF) + 1) for chosen in itertools.combinations(COMPONENT_OF, count)
]
Key = tuple[str, str]


def by_key(manifests: list[Manifest]) -> dict[Key, Manifest]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def from_helm(values: dict[str, Any], namespace: str = "movieclassifier") -> dict[Key, Manifest]:
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="any", namespace=namespace)
    found = [manifest for text in rendered.values() for manifest in yaml.safe_load_all(text) if manifest]
    assert len(by_key(found)) == len(found)
    return by_key(found)


@cache
def from_kustomize(*components: str) -> dict[Key, Manifest]:
    """The base with the tag that the chart has by default, without the Namespace, which Helm creates."""
    with tempfile.TemporaryDirectory() as folder:
        here = os.path.relpath(KUBERNETES, os.path.realpath(folder))
        kustomization = {
            "resources": [f"{here}/base"],
            "components": [f"{here}/components/{component}" for component in components],
            "images": [{"name": f"movieclassifier/{app}", "newTag": "0.1.0"} for app in ("encoder", "classifier")],
        }
        Path(folder, "kustomization.yaml").write_text(json.dumps(kustomization), encoding="utf-8")
        found = by_key(list(yaml.safe_load_all(kustomize(Path(folder)))))
    del found["Namespace", "movieclassifier"]
    return found


def test_helm_has_no_complaint() -> None:
    for chosen in COMBINATIONS:
        report = helm.lint(CHART, {value: {"enabled": True} for value in chosen}, strict=True, namespace="any")
        # A chart without an icon is complete.
        messages = [message for message in report["messages"] if "icon is recommended" not in message["error"]]
        assert (report["errors"], messages) == ([], [])


@pytest.mark.parametrize("chosen", COMBINATIONS, ids="+".join)
def test_the_chart_equals_the_base_with_components(chosen: tuple[str, ...]) -> None:
    values = {value: {"enabled": True} for value in chosen}
    wanted = from_kustomize(*(COMPONENT_OF[value] for value in chosen))
    assert from_helm(values) == wanted
    assert len(wanted) > 15


def test_templates_are_those_of_the_script() -> None:
    command = [sys.executable, ROOT / "tools/scripts/helm_chart.py", "--check", "--kubectl", KUBECTL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_values_reach_their_places_and_nothing_else_changes() -> None:
    values = {
        "images": {"encoder": {"repository": "my.registry/encoder", "tag": "1"}},
        "replicas": {"classifier": {"min": 3, "max": 9}},
        "resources": {"encoder": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}},
    }
    found, default = from_helm(values, "films"), from_helm({})
    (container,) = pod(found["Deployment", "encoder"])["containers"]
    assert (container["image"], container["resources"]) == ("my.registry/encoder:1", values["resources"]["encoder"])
    bounds = found["HorizontalPodAutoscaler", "classifier"]["spec"]
    assert (bounds["minReplicas"], bounds["maxReplicas"]) == (3, 9)
    assert {manifest["metadata"]["namespace"] for manifest in found.values()} == {"films"}
    assert found.keys() == default.keys()
    different = {key for key in found if found[key].get("spec") != default[key].get("spec")}
    assert different == {("Deployment", "encoder"), ("HorizontalPodAutoscaler", "classifier")}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"image": {}}, "image"),
        ({"tls": {"enabled": "yes"}}, "enabled"),
        ({"replicas": {"encoder": {"min": 0}}}, "min"),
        ({"images": {"encoder": {"tag": 1}}}, "tag"),
    ],
)
def test_wrong_values_are_rejected_by_name(values: dict[str, Any], named: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(HelmError, match=named):
        chart.validate_schema(chart.merge_values(values))
