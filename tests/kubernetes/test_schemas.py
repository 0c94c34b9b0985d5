"""Every overlay renders to manifests that are valid by Kubernetes' schemas, and by those of the operators that read them."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path

import pytest

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="needs a separate environment: run `make test-deploy`"
)
import yaml  # noqa: E402
from custom_resources import errors, is_custom  # noqa: E402
from manifests import ALL, KUBERNETES, Manifest, named, rendered  # noqa: E402

# Files of components that are applied by hand.
EXAMPLES = ("components/tls/cert-manager.yaml", "components/gateway/backend-tls.yaml")
KINDS = {"PodMonitor", "PrometheusRule", "GRPCRoute", "HTTPRoute", "BackendTLSPolicy", "Issuer", "Certificate"}


def validate(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, "1.36", strict=True)


@cache
def validate_once(text: str) -> None:
    """Validates a manifest as JSON. Most manifests are the same in many overlays."""
    validate(json.loads(text))


@pytest.mark.parametrize("name", ALL)
def test_manifests_match_the_schemas(name: str) -> None:
    for manifest in rendered(name):
        if not is_custom(manifest):
            validate_once(json.dumps(manifest))


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
    for example in EXAMPLES:
        found += yaml.safe_load_all((KUBERNETES / example).read_text(encoding="utf-8"))
    assert {manifest["kind"] for manifest in found} == KINDS
    assert errors(found, tmp_path) == ""


def test_detects_wrong_fields_of_custom_resources(tmp_path: Path) -> None:
    monitor = named("overlays/production+monitoring-operator", "PodMonitor", "encoder")
    unknown, wrong_type = copy.deepcopy(monitor), copy.deepcopy(monitor)
    unknown["spec"]["podMetricsEndpoints"][0]["ports"] = "metrics"
    wrong_type["spec"]["podMetricsEndpoints"][0]["port"] = 9464
    route = copy.deepcopy(named("overlays/production+gateway", "GRPCRoute", "classifier"))
    route["spec"]["rules"][0]["backendRefs"][0]["ports"] = 50052
    found = errors([unknown, wrong_type, route], tmp_path)
    assert "'\"ports\"' does not exist in type 'IGRPCBackendRef'" in found
    assert "'\"ports\"' does not exist in type 'IPodMetricsEndpoint'" in found
    assert "port must be string" in found
