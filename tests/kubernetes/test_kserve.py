"""deploy/kserve: valid by KServe's schema, and the same containers as on Kubernetes alone."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
from functools import cache
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
FOLDERS = ("deploy/kserve", "deploy/kserve/transformer")
# The container that KServe sends the calls to, if a pod has it.
TRANSFORMER = "transformer-container"


@cache
def rendered(folder: str) -> list[Manifest]:
    return list(yaml.safe_load_all(kustomize(ROOT / folder)))


def services(folder: str) -> list[Manifest]:
    return [manifest for manifest in rendered(folder) if manifest["kind"] == "InferenceService"]


def predictor_of(folder: str, app: str) -> tuple[Manifest, Manifest]:
    """The predictor whose pods run a service, and the container that does."""
    found = [
        (service["spec"]["predictor"], container)
        for service in services(folder)
        for container in service["spec"]["predictor"]["containers"]
        if container["image"].split("/")[-1].split(":")[0] == app
    ]
    (only,) = found
    return only


@pytest.mark.parametrize("folder", FOLDERS)
def test_services_match_the_schema_of_kserve(folder: str) -> None:
    for service in services(folder):
        assert (service["apiVersion"], errors(service, KIND)) == ("serving.kserve.io/v1beta1", [])


@pytest.mark.parametrize(("folder", "kinds"), [(FOLDERS[0], ["Service"]), (FOLDERS[1], [])])
def test_the_rest_matches_the_schemas_of_kubernetes(folder: str, kinds: list[str]) -> None:
    others = [manifest for manifest in rendered(folder) if manifest["kind"] != "InferenceService"]
    assert [manifest["kind"] for manifest in others] == kinds
    for manifest in others:
        kubernetes_validate.validate(manifest, "1.36", strict=True)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("predictor", "minReplica"), 1, ".spec.predictor.minReplica: unknown field of V1beta1PredictorSpec"),
        (("predictor", "minReplicas"), "1", ".spec.predictor.minReplicas: expected int, found '1'"),
        (("predictor", "containers", 0, "prots"), [], "'prots' was unexpected"),
        (("predictor", "securityContext", "runAsUser"), "root", "'root' is not of type"),
        (("predictor", "containers", 0, "lifecycle"), {"preStop": {"sleep": 25}}, "25 is not of type 'object'"),
    ],
)
def test_detects_wrong_fields(path: tuple[Any, ...], value: object, expected: str) -> None:
    changed = copy.deepcopy(services(FOLDERS[1])[0])
    at: Any = changed["spec"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert expected in "\n".join(errors(changed, KIND))


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("app", APPS)
def test_containers_are_those_of_the_base(folder: str, app: str) -> None:
    """Everything but names, ports and where the settings come from."""
    predictor, container = predictor_of(folder, app)
    workload = named("base", "Deployment", app)
    for key in ("automountServiceAccountToken", "enableServiceLinks", "securityContext"):
        assert predictor[key] == pod(workload)[key]
    (of_base,) = pod(workload)["containers"]
    for key in ("resources", "securityContext", "startupProbe", "livenessProbe", "readinessProbe"):
        assert container[key] == of_base[key]
    assert [port["containerPort"] for port in container["ports"]] == [port["containerPort"] for port in of_base["ports"]]


@pytest.mark.parametrize("app", APPS)
def test_pods_are_those_of_the_base(app: str) -> None:
    predictor, _ = predictor_of(FOLDERS[0], app)
    workload = named("base", "Deployment", app)
    assert predictor["terminationGracePeriodSeconds"] == pod(workload)["terminationGracePeriodSeconds"]
    template = workload["spec"]["template"]["metadata"]
    assert predictor["labels"].items() <= template["labels"].items()
    assert predictor["annotations"] == template["annotations"]


@pytest.mark.parametrize(("folder", "app"), [*((FOLDERS[0], app) for app in APPS), (FOLDERS[1], "classifier")])
def test_pods_scale_as_those_of_the_base(folder: str, app: str) -> None:
    predictor, _ = predictor_of(folder, app)
    autoscaler = named("base", "HorizontalPodAutoscaler", app)["spec"]
    bounds = (predictor["minReplicas"], predictor["maxReplicas"], predictor["scaleTarget"])
    assert bounds == (autoscaler["minReplicas"], autoscaler["maxReplicas"], 70)


@pytest.mark.parametrize("folder", FOLDERS)
def test_calls_reach_the_classifier_by_the_names_that_kserve_knows(folder: str) -> None:
    """KServe requires one name of a container, prefers another, and finds the protocol by the name of the first port."""
    for service in services(folder):
        containers = {container["name"]: container for container in service["spec"]["predictor"]["containers"]}
        assert set(containers) <= {"kserve-container", TRANSFORMER} and "kserve-container" in containers
        assert containers.get(TRANSFORMER, containers["kserve-container"])["ports"][0]["name"] == "h2c"
        ports = [port["name"] for container in containers.values() for port in container["ports"]]
        assert len(set(ports)) == len(ports)
        if TRANSFORMER in containers:
            assert containers[TRANSFORMER] == predictor_of(folder, "classifier")[1]


def printed_settings(app: str, arguments: list[str], variables: dict[str, str]) -> str:
    program = BINARIES / f"{app}-svc"
    if not program.is_file():
        pytest.skip(f"{program} is not built")
    ours = ("ENCODER_SVC_", "CLASSIFIER_SVC_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = [program, *arguments, "--print-config"]
    return subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True).stdout


# What differs from the base in a folder: the setting, its value there, and its value in the base.
DIFFERENT = {
    (FOLDERS[0], "classifier"): [('"http://encoder-pods:50051"', '"http://encoder:50051"')],
    (FOLDERS[1], "classifier"): [('"http://127.0.0.1:50051"', '"http://encoder:50051"')],
    (FOLDERS[1], "encoder"): [
        ("endpoint_removal_seconds = 0.0", "endpoint_removal_seconds = 5.0"),
        ("drain_seconds = 5.0", "drain_seconds = 20.0"),
    ],
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("app", APPS)
def test_settings_are_those_of_the_base(folder: str, app: str, tmp_path: Path) -> None:
    """A ConfigMap's name has no hash that KServe would follow, so variables replace the settings file."""
    _, container = predictor_of(folder, app)
    workload = named("base", "Deployment", app)
    (of_base,) = pod(workload)["containers"]
    (tmp_path / "settings.toml").write_text(settings_file("base", workload), encoding="utf-8")
    wanted = printed_settings(app, ["serve", "--config", str(tmp_path / "settings.toml")], variables_of(of_base))
    found = printed_settings(app, container["args"], variables_of(container))
    for here, there in DIFFERENT.get((folder, app), []):
        assert here in found
        found = found.replace(here, there)
    assert found == wanted
    assert error_of(app, None, variables_of(container)) == ""


def test_classifiers_find_every_encoder_pod() -> None:
    (service,) = (manifest for manifest in rendered(FOLDERS[0]) if manifest["kind"] == "Service")
    predictor, encoder = predictor_of(FOLDERS[0], "encoder")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= predictor["labels"].items()
    (port,) = service["spec"]["ports"]
    named_port = {p["name"]: p["containerPort"] for p in encoder["ports"]}[port["targetPort"]]
    _, classifier = predictor_of(FOLDERS[0], "classifier")
    assert f"http://{service['metadata']['name']}:{named_port}" in classifier["args"]


def test_an_encoder_beside_its_classifier_stops_after_it() -> None:
    """Both get SIGTERM at once, and an encoder that stops rejects calls."""
    predictor, encoder = predictor_of(FOLDERS[1], "encoder")
    _, classifier = predictor_of(FOLDERS[1], "classifier")
    assert f"http://127.0.0.1:{encoder['ports'][0]['containerPort']}" in classifier["args"]

    def seconds(app: str, container: Manifest) -> int:
        names = (f"{app.upper()}_SVC_ENDPOINT_REMOVAL_SECONDS", f"{app.upper()}_SVC_DRAIN_SECONDS")
        return sum(int(variables_of(container)[name]) for name in names)

    slept = encoder["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert slept >= seconds("classifier", classifier)
    assert predictor["terminationGracePeriodSeconds"] >= slept + seconds("encoder", encoder) + 5
