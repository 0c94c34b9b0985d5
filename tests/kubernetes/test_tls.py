"""The component `tls`: the services as it configures them, probed as a kubelet does."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
import yaml  # noqa: E402
from manifests import ALL, BINARIES, KUBERNETES, ROOT, Manifest, named, of_kind, pod, variables_of  # noqa: E402
from running import free_ports, skip_without_services, wait_for  # noqa: E402
from tls_secrets import MOUNT, Authority  # noqa: E402

WITH_TLS = [name for name in ALL if name.startswith("overlays/") and "tls" in name]
NAME = "overlays/production+tls"
ENCODERS = "https://encoder:50051"


def container_of(name: str, app: str) -> Manifest:
    (container,) = pod(named(name, "Deployment", app))["containers"]
    return dict(container)


def example() -> list[Manifest]:
    return list(yaml.safe_load_all((KUBERNETES / "components/tls/cert-manager.yaml").read_text(encoding="utf-8")))


def dns_names() -> dict[str, list[str]]:
    """The names in each certificate of the example for cert-manager, by its Secret."""
    certificates = [m["spec"] for m in example() if m["kind"] == "Certificate" and "dnsNames" in m["spec"]]
    return {spec["secretName"]: spec["dnsNames"] for spec in certificates}


@pytest.mark.parametrize("name", WITH_TLS)
@pytest.mark.parametrize("app", ["encoder", "classifier"])
def test_listeners_use_the_mounted_secret(name: str, app: str) -> None:
    variables, prefix = variables_of(container_of(name, app)), f"{app.upper()}_SVC_TLS__"
    assert variables[f"{prefix}CERTIFICATE"] == f"{MOUNT}/tls.crt"
    assert variables[f"{prefix}KEY"] == f"{MOUNT}/tls.key"
    # A subPath would not follow a renewed certificate.
    mount = {"name": "tls", "mountPath": MOUNT, "readOnly": True}
    assert mount in container_of(name, app)["volumeMounts"]
    volume = {"name": "tls", "secret": {"secretName": f"{app}-tls"}}
    assert volume in pod(named(name, "Deployment", app))["volumes"]
    annotations = named(name, "Deployment", app)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scheme"] == "https"


@pytest.mark.parametrize("name", WITH_TLS)
def test_no_service_promises_plain_text(name: str) -> None:
    ports = [port for service in of_kind(name, "Service") for port in service["spec"]["ports"]]
    assert {port["appProtocol"] for port in ports} == {"https"}


def test_the_example_for_cert_manager_makes_the_secrets_with_the_names_of_the_services() -> None:
    in_pods = {pod(workload)["volumes"][0]["secret"]["secretName"] for workload in of_kind(NAME, "Deployment")}
    assert dns_names().keys() == in_pods
    for service in of_kind(NAME, "Service"):
        of_app, address = dns_names()[f"{service['spec']['selector']['app.kubernetes.io/name']}-tls"], service["metadata"]
        assert {address["name"], f"{address['name']}.{address['namespace']}.svc"} <= set(of_app)
    issuers = {m["metadata"]["name"] for m in example() if m["kind"] == "Issuer"}
    assert {m["spec"]["issuerRef"]["name"] for m in example() if m["kind"] == "Certificate"} <= issuers


@dataclass(frozen=True)
class Running:
    """Both services with their Secrets, and the ports that their containers name."""

    authority: Authority
    secrets: Path
    ports: dict[str, dict[str, int]]


def mount(secret: Path, version: str) -> None:
    """Makes the files of `version` the current ones by changing a symbolic link, as a kubelet does."""
    link = secret / "..new"
    link.symlink_to(version)
    link.replace(secret / "..data")
    for file in ("tls.crt", "tls.key", "ca.crt"):
        if not (secret / file).is_symlink():
            (secret / file).symlink_to(f"..data/{file}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    skip_without_services()
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "authority")
    for secret, names in dns_names().items():
        (folder / secret).mkdir()
        authority.issue(folder / secret / "1", *names)
        mount(folder / secret, "1")
    encoder, metrics, classifier, rest = free_ports(4)
    ports = {"encoder": {"grpc": encoder, "metrics": metrics}, "classifier": {"grpc": classifier, "http": rest}}
    processes = []
    for app, http_listen in (("encoder", "--http-listen"), ("classifier", "--rest-listen")):
        variables = {k: v.replace(MOUNT, str(folder / f"{app}-tls")) for k, v in variables_of(container_of(NAME, app)).items()}
        if app == "classifier":
            # Here no DNS knows `encoder`, but its certificate is still checked by that name.
            assert variables["CLASSIFIER_SVC_ENCODER__URL"] == ENCODERS
            variables["CLASSIFIER_SVC_ENCODER__URL"] = f"https://127.0.0.1:{encoder}"
            variables["CLASSIFIER_SVC_ENCODER__TLS__SERVER_NAME"] = "encoder"
        listen = [f"127.0.0.1:{port}" for port in ports[app].values()]
        command = [BINARIES / f"{app}-svc", "serve", "--listen", listen[0], http_listen, listen[1]]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENCODER_SVC_", "CLASSIFIER_SVC_"))}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=clean | variables))
    try:
        yield Running(authority, folder, ports)
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(timeout=30) for process in processes] == [0, 0]


def kubelet_probe(running: Running, app: str, kind: str) -> bool:
    """Makes one probe as a kubelet does: over HTTPS, without verification, by the pod's IP address."""
    asked = container_of(NAME, app)[f"{kind}Probe"]["httpGet"]
    assert asked["scheme"] == "HTTPS"
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", running.ports[app][asked["port"]], timeout=2, context=trusting)
    try:
        connection.request("GET", asked["path"])
        return 200 <= connection.getresponse().status < 400
    except OSError:
        return False
    finally:
        connection.close()


def served_certificate(running: Running, port: int, name: str) -> bytes:
    """The certificate of a listener, verified with the authority and the name."""
    context = ssl.create_default_context(cafile=running.authority.certificate)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        with context.wrap_socket(plain, server_hostname=name) as connection:
            certificate = connection.getpeercert(binary_form=True)
            assert certificate is not None
            return certificate


@pytest.mark.parametrize("app", ["encoder", "classifier"])
@pytest.mark.parametrize("kind", ["startup", "liveness", "readiness"])
def test_probes_of_a_kubelet_succeed(running: Running, app: str, kind: str) -> None:
    wait_for(lambda: kubelet_probe(running, app, kind), f"the {kind} probe of the {app} succeeds")


def test_classifies_over_tls_with_an_encoder_over_tls(running: Running) -> None:
    wait_for(lambda: kubelet_probe(running, "classifier", "readiness"), "the classifier is ready")
    context = ssl.create_default_context(cafile=running.authority.certificate)
    context.check_hostname = False
    port = running.ports["classifier"]["http"]
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    movie = {"title": "Dust Creek", "overview": "A retired gunslinger defends a frontier town against a cattle baron."}
    connection.request("POST", "/v1/movies:classify", json.dumps(movie), {"content-type": "application/json"})
    response = connection.getresponse()
    answer = json.load(response)
    connection.close()
    assert (response.status, answer["genres"][0]["label"]) == (200, "Western")


@pytest.mark.parametrize("app", ["encoder", "classifier"])
def test_a_renewed_certificate_is_served_without_a_restart(running: Running, app: str) -> None:
    wait_for(lambda: kubelet_probe(running, app, "liveness"), f"the {app} is live")
    before = served_certificate(running, running.ports[app]["grpc"], app)
    secret = running.secrets / f"{app}-tls"
    running.authority.issue(secret / "2", *dns_names()[secret.name])
    mount(secret, "2")
    for port in running.ports[app].values():
        wait_for(lambda port=port: served_certificate(running, port, app) != before, "the new certificate is served")
