"""Every overlay renders to manifests that are valid by Kubernetes' schemas, and by those of the operators that read them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="needs a separate environment: run `make test-deploy`"
)
from custom_resources import errors, is_custom  # noqa: E402
from manifests import ALL, Manifest, named, rendered  # noqa: E402


def validate(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, "1.36", strict=True)


@pytest.mark.parametrize("name", ALL)
def test_manifests_match_the_schemas(name: str) -> None:
    for manifest in rendered(name):
        if not is_custom(manifest):
            validate(manifest)


def test_detects_a_misspelt_field() -> None:
    deployment = copy.deepcopy(named("overlays/production", "Deployment", "encoder"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["readynessProbe"] = container.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        validate(deployment)


def test_custom_resources_match_the_schemas_of_their_operators(tmp_path: Path) -> None:
    found: list[Manifest] = []
    for name in ALL:
        found += [manifest for manifest in rendered(name) if is_custom(manifest) and manifest not in found]
    assert {manifest["kind"] for manifest in found} == {"PodMonitor", "PrometheusRule"}
    assert errors(found, tmp_path) == ""


def test_detects_wrong_fields_of_custom_resources(tmp_path: Path) -> None:
    monitor = named("overlays/production+monitoring-operator", "PodMonitor", "encoder")
    unknown, wrong_type = copy.deepcopy(monitor), copy.deepcopy(monitor)
    unknown["spec"]["podMetricsEndpoints"][0]["ports"] = "metrics"
    wrong_type["spec"]["podMetricsEndpoints"][0]["port"] = 9464
    found = errors([unknown, wrong_type], tmp_path)
    assert "'\"ports\"' does not exist" in found
    assert "port must be string" in found
