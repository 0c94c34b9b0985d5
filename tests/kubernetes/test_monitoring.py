"""Prometheus finds the pods under the jobs that rules and dashboard expect, with the operator and without.

A file of targets with a pod's labels stands in for the API server: Prometheus discovers one target for each port of a
container, and relabels it as on a cluster. The services behind the targets are the real ones.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
import yaml  # noqa: E402
from custom_resources import type_errors  # noqa: E402
from manifests import ALL, BINARIES, ROOT, Manifest, named, of_kind, pod  # noqa: E402
from running import free_ports, process, skip_without_services, wait_for  # noqa: E402

OBSERVABILITY = ROOT / "deploy/observability"
DASHBOARD = OBSERVABILITY / "grafana/dashboard.json"
# In JSON a value of an enumeration is its text. Grafana exports two fields of variables that its schema does not have.
DASHBOARD_TYPES = """import type { Dashboard, VariableModel } from "@grafana/schema";
type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Json<U>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
type Variable = Omit<Json<VariableModel>, "current"> & { definition?: string; current?: object };
type Exported = Omit<Json<Dashboard>, "templating"> & { templating: { list: Variable[] } };
"""
WITHOUT_OPERATOR = OBSERVABILITY / "prometheus-kubernetes.yml"
OPERATOR = "overlays/production+monitoring-operator"
JOBS = {"encoder": "encoder-svc", "classifier": "classifier-svc"}
# A recording rule for each job that has a value soon after the start.
RECORDED = {
    "encoder-svc": "instance:movieclassifier_encoder_run_seconds:utilisation_5m",
    "classifier-svc": "job_route_status:movieclassifier_http_request_seconds_count:rate5m",
}
PHASE = "__meta_kubernetes_pod_phase"


def meta(name: str) -> str:
    """The part of a label that Prometheus makes of a Kubernetes label or annotation."""
    return re.sub(r"\W", "_", name)


def targets_of(workload: Manifest, address_of: dict[str, str], phase: str = "Running") -> list[Manifest]:
    """What Prometheus discovers of a pod (role `pod`). Ports without an address in `address_of` get one that is dead."""
    template, app = workload["spec"]["template"]["metadata"], workload["metadata"]["name"]
    labels = {
        "__meta_kubernetes_namespace": "movieclassifier",
        "__meta_kubernetes_pod_name": f"{app}-abc",
        PHASE: phase,
        **{f"__meta_kubernetes_pod_label_{meta(k)}": v for k, v in template["labels"].items()},
        **{f"__meta_kubernetes_pod_labelpresent_{meta(k)}": "true" for k in template["labels"]},
        **{f"__meta_kubernetes_pod_annotation_{meta(k)}": v for k, v in template.get("annotations", {}).items()},
    }
    (container,) = pod(workload)["containers"]
    return [
        {
            "targets": [address_of.get(port["name"], "127.0.0.1:1") if phase == "Running" else "127.0.0.1:2"],
            "labels": labels | {"__meta_kubernetes_pod_container_port_name": port["name"]},
        }
        for port in container.get("ports", [{"name": ""}])
    ]


def snake_case(value: Any) -> Any:
    if isinstance(value, dict):
        return {re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), key): snake_case(item) for key, item in value.items()}
    return [snake_case(item) for item in value] if isinstance(value, list) else value


def scrape_of(monitor: Manifest) -> Manifest:
    """What the operator makes of a PodMonitor: its own relabelling first, then the monitor's."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    name = f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
    keep = [{"action": "drop", "source_labels": [PHASE], "regex": "(Failed|Succeeded)"}]
    for label, value in monitor["spec"]["selector"]["matchLabels"].items():
        sources = [f"__meta_kubernetes_pod_{part}_{meta(label)}" for part in ("label", "labelpresent")]
        keep.append({"action": "keep", "source_labels": sources, "regex": f"({value});true"})
    port = {"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"]}
    added = [
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        {"target_label": "job", "replacement": name},
    ]
    return {
        "job_name": f"podMonitor/{name}/0",
        "tls_config": snake_case(endpoint["tlsConfig"]),
        "relabel_configs": [*keep, port, *added, *snake_case(endpoint["relabelings"])],
    }


def configuration(kind: str, targets: Path, folder: Path) -> Manifest:
    """The configuration of Prometheus with targets of a file in place of those of an API server."""
    if kind == "operator":
        scrapes = [scrape_of(monitor) for monitor in of_kind(OPERATOR, "PodMonitor")]
        rules = []
        for rule in of_kind(OPERATOR, "PrometheusRule"):
            rules.append(str(folder / f"{rule['metadata']['name']}.yaml"))
            Path(rules[-1]).write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    else:
        shipped = yaml.safe_load(WITHOUT_OPERATOR.read_text(encoding="utf-8"))
        scrapes, rules = shipped["scrape_configs"], [str(OBSERVABILITY / file) for file in shipped["rule_files"]]
        for scrape in scrapes:
            assert scrape.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["movieclassifier"]}}]
    for scrape in scrapes:
        scrape["file_sd_configs"] = [{"files": [str(targets)]}]
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    return {"global": every, "rule_files": rules, "scrape_configs": scrapes}


class Prometheus:
    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=10):
                return True
        except OSError:
            return False

    def series(self, expression: str) -> list[dict[str, str]]:
        return [series["metric"] for series in self.get("query", query=expression)["result"]]


@contextmanager
def prometheus_over(targets: list[Manifest], kind: str, folder: Path) -> Iterator[Prometheus]:
    """Runs Prometheus with these targets, and with the configuration for the operator or without it."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    discovered, file, (port,) = folder / "targets.json", folder / "prometheus.yml", free_ports(1)
    discovered.write_text(json.dumps(targets), encoding="utf-8")
    file.write_text(yaml.safe_dump(configuration(kind, discovered, folder)), encoding="utf-8")
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"]
    with process([*command, f"--web.listen-address=127.0.0.1:{port}"], folder, {"GOMAXPROCS": "1"}):
        prometheus = Prometheus(port)
        wait_for(prometheus.is_ready, "Prometheus is ready")
        yield prometheus


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Both services, and where their ports for metrics are."""
    skip_without_services()
    encoder, metrics, classifier, http = (f"127.0.0.1:{port}" for port in free_ports(4))
    with ExitStack() as stack:
        serve = [BINARIES / "encoder-svc", "serve", "--listen", encoder, "--http-listen", metrics]
        stack.enter_context(process(serve, ROOT, {}))
        serve = [BINARIES / "classifier-svc", "serve", "--listen", classifier, "--rest-listen", http]
        stack.enter_context(process([*serve, "--encoder", f"http://{encoder}"], ROOT, {}))
        yield {"encoder": metrics, "classifier": http}


@pytest.mark.parametrize("kind", ["operator", "no operator"])
def test_pods_are_scraped_under_the_jobs_of_the_rules(kind: str, addresses: dict[str, str], tmp_path: Path) -> None:
    workloads = {app: named(OPERATOR, "Deployment", app) for app in JOBS}
    job = named("trainer/encode", "Job", "encode-movies")
    found = targets_of(job, {}) + targets_of(workloads["encoder"], {}, "Succeeded")
    for app, port in (("encoder", "metrics"), ("classifier", "http")):
        found += targets_of(workloads[app], {port: addresses[app]})
    with prometheus_over(found, kind, tmp_path) as prometheus:
        wait_for(lambda: len(prometheus.series("up == 1")) == 2, "both services are scraped")
        up = {(s["job"], s["instance"], s["namespace"], s["pod"]) for s in prometheus.series("up")}
        assert up == {(JOBS[app], addresses[app], "movieclassifier", f"{app}-abc") for app in JOBS}

        def rules() -> list[dict[str, Any]]:
            return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

        wait_for(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule is evaluated")
        texts = [(OBSERVABILITY / f"rules/{name}.yaml").read_text(encoding="utf-8") for name in ("alerts", "recording")]
        assert len(rules()) == len(re.findall(r"(?m)^ +- (?:alert|record): ", "".join(texts)))
        assert [rule["lastError"] for rule in rules() if rule["health"] != "ok"] == []
        # Before the first scrape both services are missing.
        wait_for(lambda: all(rule.get("state", "inactive") == "inactive" for rule in rules()), "no alert is pending")
        urllib.request.urlopen(f"http://{addresses['classifier']}/v1/model", timeout=10).close()
        for job, recorded in RECORDED.items():
            series = f'{recorded}{{job="{job}"}}'
            wait_for(lambda series=series: bool(prometheus.series(series)), f"{series} is recorded")


@pytest.mark.parametrize("kind", ["operator", "no operator"])
def test_pods_with_tls_are_scraped_over_https(kind: str, tmp_path: Path) -> None:
    workloads = [named("overlays/production+tls", "Deployment", app) for app in JOBS]
    found = [target for workload in workloads for target in targets_of(workload, {})]
    with prometheus_over(found, kind, tmp_path) as prometheus:
        wait_for(lambda: len(prometheus.get("targets")["activeTargets"]) == 2, "two targets are found")
        urls = {target["labels"]["job"]: target["scrapeUrl"] for target in prometheus.get("targets")["activeTargets"]}
    assert urls == dict.fromkeys(JOBS.values(), "https://127.0.0.1:1/metrics")


def test_prometheus_rules_are_those_of_the_files() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/scripts/prometheus_rules.py", "--check"], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("name", [name for name in ALL if "monitoring-operator" in name])
def test_monitors_select_the_pods_and_the_ports_with_metrics(name: str) -> None:
    for app in JOBS:
        monitor, workload = named(name, "PodMonitor", app), named(name, "Deployment", app)
        template = workload["spec"]["template"]["metadata"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= template["labels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (container,) = pod(workload)["containers"]
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        assert ports[endpoint["port"]] == template["annotations"]["prometheus.io/port"]


def test_the_encoders_service_has_its_port_for_metrics() -> None:
    ports = {port["name"]: port["port"] for port in named("overlays/production", "Service", "encoder")["spec"]["ports"]}
    assert ports == {"grpc": 50051, "metrics": 9464}


def test_the_dashboard_matches_the_schema_of_grafana(tmp_path: Path) -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    wrong = text.replace('"palette-classic"', '"palette-clasic"', 1).replace('"gridPos"', '"gridPosition"', 1)
    shipped = f"{DASHBOARD_TYPES}export const shipped: Exported = {text};\n"
    # Both in one run, because it takes the compiler longer to start than to check.
    found = type_errors(f"{shipped}export const wrong: Exported = {wrong};\n", tmp_path)
    lines = [int(line) for line in re.findall(r"(?m)^types\.ts\((\d+),", found)]
    assert [line for line in lines if line <= shipped.count("\n")] == [], found
    assert '"gridPosition"' in found
    assert '"palette-clasic"' in found
