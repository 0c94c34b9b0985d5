"""deploy/kserve: valid by KServe's schema, and the same pods as on Kubernetes alone."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
if importlib.util.find_spec("kserve") is None:
    pytest.skip("the environment is older than its requirements: run `make test-deploy`", allow_module_level=True)
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402
from kserve_schema import errors  # noqa: E402
from manifests import BINARIES, ROOT, Manifest, kustomize, named, pod, settings_file, variables_of  # noqa: E402
from test_settings import error_of  # noqa: E402

KIND = "V1beta1InferenceService"
APPS = ("encoder", "classifier")


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return list(yaml.safe_load_all(kustomize(ROOT / "deploy/kserve")))


def service_of(manifests: list[Manifest], app: str) -> Manifest:
    (found,) = (m for m in manifests if m["kind"] == "InferenceService" and m["metadata"]["name"] == app)
    return found


@pytest.mark.parametrize("app", APPS)
def test_services_match_the_schema_of_kserve(app: str, manifests: list[Manifest]) -> None:
    service = service_of(manifests, app)
    assert (service["apiVersion"], errors(service, KIND)) == ("serving.kserve.io/v1beta1", [])


def test_the_rest_matches_the_schemas_of_kubernetes(manifests: list[Manifest]) -> None:
    others = [manifest for manifest in manifests if manifest["kind"] != "InferenceService"]
    assert [manifest["kind"] for manifest in others] == ["Service"]
    kubernetes_validate.validate(others[0], "1.36", strict=True)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("predictor", "minReplica"), 1, ".spec.predictor.minReplica: unknown field of V1beta1PredictorSpec"),
        (("predictor", "minReplicas"), "1", ".spec.predictor.minReplicas: expected int, found '1'"),
        (("predictor", "containers", 0, "prots"), [], "'prots' was unexpected"),
        (("predictor", "securityContext", "runAsUser"), "root", "'root' is not of type"),
    ],
)
def test_detects_wrong_fields(path: tuple[Any, ...], value: object, expected: str, manifests: list[Manifest]) -> None:
    changed = copy.deepcopy(service_of(manifests, "encoder"))
    at: Any = changed["spec"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert expected in "\n".join(errors(changed, KIND))


@pytest.mark.parametrize("app", APPS)
def test_pods_are_those_of_the_base(app: str, manifests: list[Manifest]) -> None:
    """Everything but names, ports and where the settings come from."""
    predictor, workload = service_of(manifests, app)["spec"]["predictor"], named("base", "Deployment", app)
    for key in ("automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds", "securityContext"):
        assert predictor[key] == pod(workload)[key]
    template = workload["spec"]["template"]["metadata"]
    assert predictor["labels"].items() <= template["labels"].items()
    assert predictor["annotations"] == template["annotations"]
    (container,), (of_base,) = predictor["containers"], pod(workload)["containers"]
    for key in ("resources", "securityContext", "startupProbe", "livenessProbe", "readinessProbe"):
        assert container[key] == of_base[key]
    assert [port["containerPort"] for port in container["ports"]] == [port["containerPort"] for port in of_base["ports"]]
    autoscaler = named("base", "HorizontalPodAutoscaler", app)["spec"]
    bounds = (predictor["minReplicas"], predictor["maxReplicas"], predictor["scaleTarget"])
    assert bounds == (autoscaler["minReplicas"], autoscaler["maxReplicas"], 70)
    # KServe finds the container and the protocol by these names.
    assert (container["name"], container["ports"][0]["name"]) == ("kserve-container", "h2c")


def printed_settings(app: str, arguments: list[str], variables: dict[str, str]) -> str:
    program = BINARIES / f"{app}-svc"
    if not program.is_file():
        pytest.skip(f"{program} is not built")
    ours = ("ENCODER_SVC_", "CLASSIFIER_SVC_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = [program, *arguments, "--print-config"]
    return subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("app", APPS)
def test_settings_are_those_of_the_base(app: str, manifests: list[Manifest], tmp_path: Path) -> None:
    """A ConfigMap's name has no hash that KServe would follow, so variables replace the settings file."""
    (container,) = service_of(manifests, app)["spec"]["predictor"]["containers"]
    workload = named("base", "Deployment", app)
    (of_base,) = pod(workload)["containers"]
    (tmp_path / "settings.toml").write_text(settings_file("base", workload), encoding="utf-8")
    wanted = printed_settings(app, ["serve", "--config", str(tmp_path / "settings.toml")], variables_of(of_base))
    found = printed_settings(app, container["args"], variables_of(container))
    assert found.replace("http://encoder-pods:", "http://encoder:") == wanted
    assert error_of(app, None, variables_of(container)) == ""


def test_classifiers_find_every_encoder_pod(manifests: list[Manifest]) -> None:
    (service,) = (manifest for manifest in manifests if manifest["kind"] == "Service")
    encoder = service_of(manifests, "encoder")["spec"]["predictor"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= encoder["labels"].items()
    (port,) = service["spec"]["ports"]
    named_port = {p["name"]: p["containerPort"] for p in encoder["containers"][0]["ports"]}[port["targetPort"]]
    (classifier,) = service_of(manifests, "classifier")["spec"]["predictor"]["containers"]
    assert f"http://{service['metadata']['name']}:{named_port}" in classifier["args"]
