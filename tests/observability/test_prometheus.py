"""A real Prometheus accepts the rules, scrapes both services, and answers every query of the dashboard."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from metrics_table import OBSERVABILITY, SERVICES, table
from shipped import queries, rules, variable_queries, without_variables
from waiting import wait_for

if not (shutil.which("prometheus") and shutil.which("promtool")):
    pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)", allow_module_level=True)

from prometheus_server import Prometheus, running

if TYPE_CHECKING:
    from running_pair import Pair

pytest_plugins = ["running_pair"]

# Empty panels: no call is in flight, and no request failed.
EMPTY = {"Calls in flight", "Ratio of 5xx"}


@pytest.fixture(scope="module")
def prometheus(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped both services more than once."""
    with running(pair.metrics, tmp_path_factory.mktemp("prometheus")) as server:
        wait_for(server.is_ready, "Prometheus is ready", seconds=20)
        scraped = "count by (job) (count_over_time(up[1m]) > 2)"
        wait_for(lambda: len(server.query(scraped)) == len(SERVICES), "both services are scraped", seconds=20)
        yield server


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules/recording.yaml", "rules/alerts.yaml"),
        ("test", "rules", "rules/tests.yaml"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_accepts_the_files(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=OBSERVABILITY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_services_are_scraped_under_their_names(prometheus: Prometheus, pair: Pair) -> None:
    up = {(s["metric"]["job"], s["metric"]["instance"]): s["value"][1] for s in prometheus.query("up")}
    assert up == {(service, pair.metrics[service]): "1" for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_prometheus_has_every_metric_of_the_table(prometheus: Prometheus, service: str) -> None:
    names = [name for metric in table(service) for name in metric.series()]
    missing = [name for name in names if not prometheus.query(f'{name}{{job="{service}"}}')]
    assert not missing


def test_types_and_help_are_known_to_prometheus(prometheus: Prometheus) -> None:
    known = prometheus.get("metadata")
    for metric in (metric for service in SERVICES for metric in table(service)):
        # OpenMetrics names the metadata of a counter without its suffix.
        about = known.get(metric.name) or known[metric.name.removesuffix("_total")]
        assert {entry["type"] for entry in about} == {metric.type} and all(entry["help"] for entry in about)


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    def evaluated() -> dict[str, dict[str, str]]:
        groups = prometheus.get("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"] if rule["health"] != "unknown"}

    wait_for(lambda: evaluated().keys() == {rule.name for rule in rules()}, "all rules are evaluated", seconds=20)
    assert {name: rule["lastError"] for name, rule in evaluated().items() if rule["health"] != "ok"} == {}


def test_every_panel_has_data(prometheus: Prometheus) -> None:
    asked = {f"{query.panel}: {query.expression}": query for query in queries()}
    empty = {query.panel for query in asked.values() if not prometheus.query(without_variables(query.expression))}
    assert empty <= EMPTY


def test_every_variable_has_values(prometheus: Prometheus) -> None:
    for expression, label in variable_queries():
        found = prometheus.get(f"label/{label}/values", **{"match[]": without_variables(expression)})
        assert found, label
