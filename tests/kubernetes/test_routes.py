"""What the components `gateway`, `ingress-nginx` and `api-keys` let clients reach, on the real services."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
from manifests import ALL, BINARIES, ROOT, Manifest, named, of_kind, pod, settings_file, variables_of  # noqa: E402
from running import free_ports, process, skip_without_services, wait_for  # noqa: E402

KEYS = "overlays/production+api-keys"
PAGE = ["/", "/app.js", "/style.css", "/favicon.svg", "/openapi.json"]
OPERATORS_ONLY = ["/metrics", "/livez", "/readyz"]
MOVIE = {"title": "Dust Creek", "overview": "A retired gunslinger defends a frontier town against a cattle baron."}


def matches(kind: str, value: str, path: str) -> bool:
    """Whether a rule matches. A prefix matches whole parts of a path, in the Gateway API and in an Ingress."""
    if kind == "Exact":
        return path == value
    assert kind in {"Prefix", "PathPrefix"}
    return path == value or path.startswith(value.rstrip("/") + "/")


def is_published(manifest: Manifest, path: str) -> bool:
    rules = manifest["spec"]["rules"]
    if manifest["kind"] == "HTTPRoute":
        found = [match["path"] for rule in rules for match in rule["matches"]]
        return any(matches(rule["type"], rule["value"], path) for rule in found)
    return any(matches(rule["pathType"], rule["path"], path) for outer in rules for rule in outer["http"]["paths"])


def backends(manifest: Manifest) -> set[tuple[str, Any]]:
    if manifest["kind"] == "Ingress":
        services = [path["backend"]["service"] for rule in manifest["spec"]["rules"] for path in rule["http"]["paths"]]
        return {(service["name"], service["port"]["name"]) for service in services}
    return {(ref["name"], ref["port"]) for rule in manifest["spec"]["rules"] for ref in rule["backendRefs"]}


@pytest.mark.parametrize("name", [name for name in ALL if "gateway" in name])
def test_a_gateway_routes_each_protocol_to_its_port_under_a_name_of_its_own(name: str) -> None:
    ports = {p["name"]: p["port"] for p in named(name, "Service", "classifier")["spec"]["ports"]}
    grpc, rest = named(name, "GRPCRoute", "classifier"), named(name, "HTTPRoute", "classifier")
    assert (backends(grpc), backends(rest)) == ({("classifier", ports["grpc"])}, {("classifier", ports["http"])})
    assert not set(grpc["spec"]["hostnames"]) & set(rest["spec"]["hostnames"])


@pytest.mark.parametrize("name", [name for name in ALL if "ingress-nginx" in name])
def test_an_ingress_speaks_the_protocol_of_its_port(name: str) -> None:
    protocols = {
        port: named(name, "Ingress", ingress)["metadata"]["annotations"]["nginx.ingress.kubernetes.io/backend-protocol"]
        for ingress in ("classifier", "classifier-grpc")
        for _, port in backends(named(name, "Ingress", ingress))
    }
    # A component sees what earlier ones have added.
    with_tls = "tls" in name and name.index("tls") > name.index("ingress-nginx")
    assert protocols == ({"http": "HTTPS", "grpc": "GRPCS"} if with_tls else {"http": "HTTP", "grpc": "GRPC"})
    certified = [host for ingress in of_kind(name, "Ingress") for tls in ingress["spec"]["tls"] for host in tls["hosts"]]
    assert sorted(certified) == sorted(i["spec"]["rules"][0]["host"] for i in of_kind(name, "Ingress"))


class Rest:
    """The classifier's HTTP listener."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def status(self, path: str, key: str | None = None, body: object = None) -> int:
        headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def json(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=30) as response:
            return json.load(response)

    def is_ready(self) -> bool:
        try:
            return self.status("/readyz") == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """Both services with the settings, variables and Secrets of the component `api-keys`."""
    skip_without_services()
    folder = tmp_path_factory.mktemp("settings")
    encoder, metrics, classifier, http = free_ports(4)
    with ExitStack() as stack:
        for app, flag, ports in (
            ("encoder", "--http-listen", (encoder, metrics)),
            ("classifier", "--rest-listen", (classifier, http)),
        ):
            workload = named(KEYS, "Deployment", app)
            file = Path(folder, f"{app}.toml")
            file.write_text(settings_file(KEYS, workload), encoding="utf-8")
            (container,) = pod(workload)["containers"]
            variables = variables_of(container)
            if app == "classifier":
                variables["CLASSIFIER_SVC_ENCODER__URL"] = f"http://127.0.0.1:{encoder}"
            # Stops at once, because no load balancer has to notice.
            variables[f"{app.upper()}_SVC_ENDPOINT_REMOVAL_SECONDS"] = "0"
            listen = ["--listen", f"127.0.0.1:{ports[0]}", flag, f"127.0.0.1:{ports[1]}"]
            command = [BINARIES / f"{app}-svc", "serve", "--config", file, *listen]
            stack.enter_context(process(command, ROOT, variables))
        found = Rest(http)
        wait_for(found.is_ready, "the classifier is ready, so its key for the encoder is right")
        yield found


def test_clients_need_a_key_and_probes_do_not(rest: Rest) -> None:
    path = "/v1/movies:classify"
    assert [rest.status(path, key, MOVIE) for key in (None, "another", "website's key")] == [401, 401, 200]
    assert [rest.status(path) for path in OPERATORS_ONLY] == [200, 200, 200]


def test_routes_publish_the_api_and_the_page_but_no_probes_and_metrics(rest: Rest) -> None:
    api = list(rest.json("/openapi.json")["paths"])
    assert "/v1/movies:classify" in api
    for manifest in (
        named("overlays/production+gateway", "HTTPRoute", "classifier"),
        named("overlays/production+ingress-nginx", "Ingress", "classifier"),
    ):
        assert [path for path in [*api, *PAGE] if not is_published(manifest, path)] == []
        assert [path for path in PAGE if rest.status(path) != 200] == []
        assert [path for path in OPERATORS_ONLY if is_published(manifest, path)] == []
