"""What each component adds, and what base and production leave to components."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
import yaml  # noqa: E402
from manifests import (  # noqa: E402
    ALL,
    COMPONENTS,
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Manifest,
    kustomize,
    named,
    of_kind,
    pod,
    rendered,
    variables_of,
)

CLUSTER_WIDE = {"Namespace", "PriorityClass"}
ROLES = "rbac.authorization.k8s.io"
QUEUE = "movieclassifier_encoder_queue_seconds"


def metrics(name: str, autoscaler: str) -> list[Manifest]:
    found: list[Manifest] = named(name, "HorizontalPodAutoscaler", autoscaler)["spec"]["metrics"]
    return found


@pytest.mark.parametrize("name", [name for name in ALL if "scale-by-queue" not in name])
def test_autoscalers_need_no_metrics_adapter(name: str) -> None:
    """An autoscaler that misses one of its metrics never scales down."""
    for autoscaler in of_kind(name, "HorizontalPodAutoscaler"):
        assert [metric["type"] for metric in autoscaler["spec"]["metrics"]] == ["Resource"]


@pytest.mark.parametrize("name", [name for name in ALL if "scale-by-queue" in name])
def test_scale_by_queue_adds_the_expected_wait_and_brings_the_adapters_rule(name: str) -> None:
    assert metrics(name, "classifier") == metrics("overlays/production", "classifier")
    cpu, wait = metrics(name, "encoder")
    assert [cpu] == metrics("overlays/production", "encoder")
    assert wait["type"] == "Pods"
    assert wait["pods"]["metric"] == {"name": QUEUE, "selector": {"matchLabels": {"class": "online"}}}
    rules = yaml.safe_load((KUBERNETES / "components/scale-by-queue/prometheus-adapter.yaml").read_text("utf-8"))
    (rule,) = rules["rules"]
    # The adapter finds a pod's series by the labels that it names in `resources`.
    assert rule["seriesQuery"] == QUEUE + '{namespace!="",pod!=""}'
    assert rule["resources"]["overrides"].keys() == {"namespace", "pod"}
    # The autoscaler's selector reaches the query.
    assert "<<.LabelMatchers>>" in rule["metricsQuery"]


def mounts(name: str, workload: Manifest, volume: str) -> list[Manifest]:
    (container,) = pod(workload)["containers"]
    return [mount for mount in container["volumeMounts"] if mount["name"] == volume]


@pytest.mark.parametrize("name", ALL)
def test_image_volumes_are_mounted_whole(name: str) -> None:
    """containerd before 2.2 ignores the subPath of an image volume without an error."""
    for workload in of_kind(name, "Deployment", "Job"):
        for volume in pod(workload)["volumes"]:
            if "image" in volume:
                assert [mount for mount in mounts(name, workload, volume["name"]) if "subPath" in mount] == []


@pytest.mark.parametrize("name", [name for name in ALL if "models-from-image" in name])
def test_services_read_their_models_where_the_image_has_them(name: str) -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    stage = dockerfile.partition("AS models\n")[2]
    copied = dict(re.findall(r"(?m)^COPY (?:--from=\S+ )?(\S+) (\S+)$", stage))
    default = {"encoder": "minilm-512", "classifier": "default.safetensors"}
    in_image = {
        "encoder": f"{copied['/runtime/bundles']}/{default['encoder']}",
        "classifier": f"{copied['models/default.safetensors']}{default['classifier']}",
    }
    for app, variable in (("encoder", "ENCODER_SVC_ENCODER__BUNDLE"), ("classifier", "CLASSIFIER_SVC_MODEL")):
        workload = named(name, "Deployment", app)
        (mount,) = mounts(name, workload, "models")
        (container,) = pod(workload)["containers"]
        assert variables_of(container)[variable] == mount["mountPath"] + in_image[app]


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "trainer/claim"])
def test_deleting_an_overlay_keeps_the_claim(name: str) -> None:
    """`kubectl delete -k` deletes all that the overlay renders. A Namespace takes along what it contains."""
    assert of_kind(name, "PersistentVolumeClaim") == []
    assert not name.startswith("trainer/") or of_kind(name, "Namespace") == []


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name.startswith("trainer/")])
def test_jobs_use_the_claim_of_its_own_kustomization(name: str) -> None:
    (claim,) = of_kind("trainer/claim", "PersistentVolumeClaim")
    for job in of_kind(name, "Job"):
        used = [volume["persistentVolumeClaim"] for volume in pod(job)["volumes"] if "persistentVolumeClaim" in volume]
        # The job over a bucket has no claim.
        assert used == ([] if name.endswith("-bucket") else [{"claimName": claim["metadata"]["name"]}])
        assert job["metadata"]["namespace"] == claim["metadata"]["namespace"]


@pytest.mark.parametrize("name", [*ALL, *(f"overlays/dev+{component}" for component in COMPONENTS)])
def test_everything_is_in_the_namespace_of_the_overlay(name: str) -> None:
    """A component brings its resources after the base has set the namespace."""
    wanted = "movieclassifier-dev" if "dev" in name else "movieclassifier"
    for manifest in rendered(name):
        if manifest["kind"] not in CLUSTER_WIDE:
            assert manifest["metadata"].get("namespace") == wanted, manifest["metadata"]["name"]


@pytest.mark.parametrize("name", [name for name in ALL if "endpointslice-discovery" in name])
def test_only_classifiers_may_watch_endpointslices_and_nothing_else(name: str) -> None:
    (role,) = of_kind(name, "Role", "ClusterRole")
    watch = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    assert role["rules"] == [watch]
    (binding,) = of_kind(name, "RoleBinding", "ClusterRoleBinding")
    assert binding["roleRef"] == {"apiGroup": ROLES, "kind": "Role", "name": role["metadata"]["name"]}
    account = pod(named(name, "Deployment", "classifier"))["serviceAccountName"]
    namespace = role["metadata"]["namespace"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    assert account != pod(named(name, "Deployment", "encoder"))["serviceAccountName"]


def test_discovery_follows_the_namespace_of_an_overlay(tmp_path: Path) -> None:
    here = os.path.relpath(KUBERNETES, tmp_path.resolve())
    kustomization = {
        "namespace": "films",
        "resources": [f"{here}/overlays/production"],
        "components": [f"{here}/components/endpointslice-discovery"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    manifests = list(yaml.safe_load_all(kustomize(tmp_path)))
    (binding,) = (manifest for manifest in manifests if manifest["kind"] == "RoleBinding")
    assert [subject["namespace"] for subject in binding["subjects"]] == ["films"]
    assert {manifest["metadata"]["namespace"] for manifest in manifests if manifest["kind"] != "Namespace"} == {"films"}


@pytest.mark.parametrize("name", [name for name in ALL if "priority" in name])
def test_services_displace_others_and_jobs_displace_none(name: str) -> None:
    classes = {found["metadata"]["name"]: found for found in of_kind(name, "PriorityClass")}
    for workload in of_kind(name, "Deployment", "Job"):
        of_pod = classes[pod(workload)["priorityClassName"]]
        assert (of_pod["value"] > 0) == (workload["kind"] == "Deployment")
        assert of_pod.get("preemptionPolicy") == ("Never" if workload["kind"] == "Job" else None)


@pytest.mark.parametrize("name", [name for name in ALL if "image-pull-secret" in name])
def test_every_account_has_the_login_of_the_registry(name: str) -> None:
    accounts = of_kind(name, "ServiceAccount")
    assert {pod(workload)["serviceAccountName"] for workload in of_kind(name, "Deployment", "Job")} == {
        account["metadata"]["name"] for account in accounts
    }
    assert [account["imagePullSecrets"] for account in accounts] == [[{"name": "registry"}]] * len(accounts)
