"""Rules that every pod follows in every overlay."""

from __future__ import annotations

import tomllib
from fractions import Fraction

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
from manifests import ALL, JOBS, Manifest, named, of_kind, pod, settings_file, variables_of, workloads  # noqa: E402

SERVICES = [name for name in ALL if name.startswith("overlays/")]
# The time left to exit after the drain.
MARGIN_SECONDS = 5

of_all = pytest.mark.parametrize("name", ALL)
of_services = pytest.mark.parametrize("name", SERVICES)


def cores(quantity: str) -> Fraction:
    return Fraction(quantity.removesuffix("m")) / (1000 if quantity.endswith("m") else 1)


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def requests(workload: Manifest) -> tuple[Fraction, int]:
    """Cores and MiB that a workload asks for, with the additional pod of a rollout."""
    spec = workload["spec"]
    count = spec.get("parallelism", 1)
    if workload["kind"] == "Deployment":
        count = spec["replicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"]
    (container,) = pod(workload)["containers"]
    asked = container["resources"]["requests"]
    return cores(asked["cpu"]) * count, mebibytes(asked["memory"]) * count


def containers(name: str) -> list[Manifest]:
    return [container for workload in workloads(name) for container in pod(workload)["containers"]]


@of_all
def test_pods_meet_the_restricted_standard(name: str) -> None:
    for workload in workloads(name):
        spec = pod(workload)
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
        assert not any("hostPath" in volume for volume in spec["volumes"])
    for container in containers(name):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
    for namespace in of_kind(name, "Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@of_all
def test_pods_have_no_token_without_need_and_no_variables_of_other_services(name: str) -> None:
    for workload in workloads(name):
        spec = pod(workload)
        account = named(name, "ServiceAccount", spec["serviceAccountName"])
        # Only classifiers that watch EndpointSlices call Kubernetes.
        watches = "endpointslice-discovery" in name and workload["metadata"]["name"] == "classifier"
        assert spec["automountServiceAccountToken"] is watches
        assert account["automountServiceAccountToken"] is False
        # A Service named classifier-svc would set CLASSIFIER_SVC_PORT, which is an unknown setting.
        assert spec["enableServiceLinks"] is False


@of_all
def test_images_are_pinned_by_tag(name: str) -> None:
    for container in containers(name):
        assert ":" in container["image"].rsplit("/", 1)[-1], container["image"]


@of_all
def test_containers_have_requests_and_limits(name: str) -> None:
    for container in containers(name):
        for amounts in (container["resources"]["requests"], container["resources"]["limits"]):
            assert amounts.keys() >= {"cpu", "memory"}


@of_all
def test_encoder_has_one_session_per_core(name: str) -> None:
    for workload in workloads(name):
        if workload["metadata"]["name"] != "encoder":
            continue
        (container,) = pod(workload)["containers"]
        assert cores(container["resources"]["limits"]["cpu"]).denominator == 1
        variables = {variable["name"]: variable for variable in container["env"]}
        for key in ("SESSIONS", "ALL_CORE_THREADS"):
            reference = variables[f"ENCODER_SVC_ENCODER__{key}"]["valueFrom"]["resourceFieldRef"]
            assert reference["resource"] == "limits.cpu"
        assert "sessions" not in tomllib.loads(settings_file(name, workload)).get("encoder", {})


@of_all
def test_worker_knows_the_number_of_workers(name: str) -> None:
    for job in of_kind(name, "Job"):
        if job["spec"].get("completionMode") == "Indexed":
            (container,) = pod(job)["containers"]
            assert variables_of(container)["JOB_COMPLETIONS"] == str(job["spec"]["completions"])


def probes(name: str, app: str) -> dict[str, Manifest]:
    """What each probe of a service asks, without its times."""
    (container,) = pod(named(name, "Deployment", app))["containers"]
    kinds = ("startup", "liveness", "readiness")
    return {
        kind: {how: container[f"{kind}Probe"][how] for how in ("grpc", "httpGet") if how in container[f"{kind}Probe"]}
        for kind in kinds
    }


@pytest.mark.parametrize("name", [name for name in SERVICES if "tls" not in name])
def test_probes_use_grpc_and_only_readiness_depends_on_the_encoder(name: str) -> None:
    assert all(probe == {"grpc": {"port": 50051}} for probe in probes(name, "encoder").values())
    livez = {"httpGet": {"path": "/livez", "port": "http"}}
    readiness = {"grpc": {"port": 50052}}
    assert probes(name, "classifier") == {"startup": livez, "liveness": livez, "readiness": readiness}


@pytest.mark.parametrize("name", [name for name in SERVICES if "tls" in name])
def test_with_tls_probes_use_https_because_a_kubelet_speaks_no_tls_in_grpc_probes(name: str) -> None:
    for app, port, at_start in (("encoder", "metrics", "/readyz"), ("classifier", "http", "/livez")):
        paths = {"startup": at_start, "liveness": "/livez", "readiness": "/readyz"}
        assert probes(name, app) == {
            kind: {"httpGet": {"path": path, "port": port, "scheme": "HTTPS"}} for kind, path in paths.items()
        }


@of_services
def test_termination_leaves_time_for_removal_and_drain(name: str) -> None:
    for workload in of_kind(name, "Deployment"):
        settings = tomllib.loads(settings_file(name, workload))
        assert settings["endpoint_removal_seconds"] >= 5
        needed = settings["endpoint_removal_seconds"] + settings["drain_seconds"] + MARGIN_SECONDS
        assert pod(workload)["terminationGracePeriodSeconds"] >= needed
        # The drain does not interrupt a request within its timeout.
        assert settings.get("rest", {}).get("timeout_seconds", 0) <= settings["drain_seconds"]


@of_services
def test_ports_match_in_settings_containers_and_services(name: str) -> None:
    for workload in of_kind(name, "Deployment"):
        app = workload["metadata"]["name"]
        settings = tomllib.loads(settings_file(name, workload))
        listened = {settings["listen"], settings.get("http", settings.get("rest"))["listen"]}
        (container,) = pod(workload)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert listened == {f"0.0.0.0:{port}" for port in ports.values()}
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert int(annotations["prometheus.io/port"]) in ports.values()
        services = [s for s in of_kind(name, "Service") if s["spec"]["selector"] == {"app.kubernetes.io/name": app}]
        assert services
        for service in services:
            for port in service["spec"]["ports"]:
                assert ports[port["targetPort"]] == port["port"]


@of_services
def test_classifiers_balance_over_every_encoder_pod(name: str) -> None:
    settings = tomllib.loads(settings_file(name, named(name, "Deployment", "classifier")))
    assert settings["encoder"]["url"] == "http://encoder:50051"
    service = named(name, "Service", "encoder")["spec"]
    assert service["clusterIP"] == "None"
    # DNS caches an empty answer, so a classifier that starts with its encoders would wait for it to expire.
    assert service["publishNotReadyAddresses"] is True


@of_services
def test_rollout_keeps_a_pod_until_its_replacement_is_ready(name: str) -> None:
    for workload in of_kind(name, "Deployment"):
        assert workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        if "production" in name:
            assert workload["spec"]["minReadySeconds"] >= 30
            keys = {constraint["topologyKey"] for constraint in pod(workload)["topologySpreadConstraints"]}
            assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


@of_services
def test_a_second_apply_changes_nothing(name: str) -> None:
    """`kubectl apply` compares with what the API server stored, and that has the type that was left out."""
    for workload in of_kind(name, "Deployment"):
        assert workload["spec"]["strategy"]["type"] == "RollingUpdate"


@pytest.mark.parametrize("job", JOBS)
def test_dev_fits_a_node_of_two_cores_with_a_job_beside_it(job: str) -> None:
    # The control plane and the network of a node made by kubeadm ask for about as much.
    system = (Fraction(95, 100), 512)
    asked = [system] + [requests(workload) for name in ("overlays/dev", f"{job}+small") for workload in workloads(name)]
    assert sum(cpu for cpu, _ in asked) <= 2
    assert sum(memory for _, memory in asked) <= 4 * 1024


@of_services
def test_selectors_find_their_pods(name: str) -> None:
    pods = [workload["spec"]["template"]["metadata"]["labels"] for workload in of_kind(name, "Deployment")]
    for manifest in of_kind(name, "Service", "PodDisruptionBudget"):
        selector = manifest["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= labels.items() for labels in pods), manifest["metadata"]["name"]
    deployments = {workload["metadata"]["name"] for workload in of_kind(name, "Deployment")}
    for autoscaler in of_kind(name, "HorizontalPodAutoscaler"):
        assert autoscaler["spec"]["scaleTargetRef"]["name"] in deployments


def test_production_tolerates_disruptions() -> None:
    budgets = of_kind("overlays/production", "PodDisruptionBudget")
    assert {budget["metadata"]["name"] for budget in budgets} == {"classifier", "encoder"}
