"""Rules and dashboard use only known metrics, labels and values."""

from __future__ import annotations

import re

import grpc
import pytest
from metrics_table import OBSERVABILITY, SERVICES, table
from promql import Matcher, grouping, selectors
from shipped import (
    RULES,
    Query,
    Rule,
    dashboard,
    panels,
    queries,
    rules,
    rules_of,
    variable_queries,
    without_variables,
)

Labels = dict[str, frozenset[str]]

TARGET: Labels = {"job": frozenset(SERVICES), "instance": frozenset()}
"""Labels that Prometheus adds."""
CODES = frozenset(code.name for code in grpc.StatusCode)
LABEL_OF_ALERT = re.compile(r"\$labels\.(\w+)")


def known() -> dict[str, Labels]:
    """Returns every known series with its labels and their listed values."""
    series: dict[str, Labels] = {"up": TARGET}
    for service in SERVICES:
        for metric in table(service):
            for name, labels in metric.series().items():
                series[name] = {**TARGET, **labels} | ({"code": CODES} if "code" in labels else {})
    for rule in rules():
        if rule.kind == "record":
            used = labels_of(rule.expression, series)
            series[rule.name] = {label: used[label] for label in grouping(rule.expression) - {"le"}}
    return series


def labels_of(expression: str, series: dict[str, Labels]) -> Labels:
    """Returns the labels of all series that an expression selects."""
    return {label: values for s in selectors(expression) for label, values in series.get(s.name, {}).items()}


def fits(matcher: Matcher, labels: Labels) -> bool:
    values = labels.get(matcher.label)
    return values is not None and (not values or values.issuperset(matcher.values()))


def check(expression: str) -> None:
    series = known()
    found = selectors(expression)
    assert found, f"expected a selector in: {expression}"
    for selector in found:
        assert selector.name in series, f"unknown metric: {selector.name} in {expression}"
        for matcher in selector.matchers:
            assert fits(matcher, series[selector.name]), f"{selector.name} has no {matcher} in {expression}"
    unknown = grouping(expression) - labels_of(expression, series).keys()
    assert not unknown, f"grouped by {unknown}, which no series has: {expression}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_rule_uses_known_series(rule: Rule) -> None:
    check(rule.expression)
    unknown = set(LABEL_OF_ALERT.findall(rule.text)) - labels_of(rule.expression, known()).keys()
    assert not unknown, f"{rule.name} tells {unknown}, which its alerts lack"


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.panel)
def test_panel_uses_known_series(query: Query) -> None:
    check(without_variables(query.expression))


def test_variables_use_known_series() -> None:
    found = variable_queries()
    assert {label for _, label in found} == {"job", "instance", "method"}
    for expression, label in found:
        check(without_variables(expression))
        assert label in labels_of(expression, known())


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {selector.name for query in queries() for selector in selectors(without_variables(query.expression))}
    missing = [m.name for service in SERVICES for m in table(service) if not shown & m.series().keys()]
    assert not missing


def test_dashboard_is_valid_for_grafana() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 39
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert variables == {"datasource", "job", "instance", "method"}
    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == [
        "Traffic", "Latency", "Encoder", "Classifier", "HTTP",
    ]  # fmt: skip
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval"}, target["expr"]


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} overlaps {taken.get(cell)}"
            taken[cell] = panel["title"]


def test_alert_has_severity_summary_and_runbook() -> None:
    alerts = [rule for rule in rules_of(RULES[1]) if rule.kind == "alert"]
    assert len({alert.name for alert in alerts}) == len(alerts) > 0
    for alert in alerts:
        assert re.search(r"severity: (warning|critical)\n", alert.text), alert.name
        assert re.search(r'summary: ".+"', alert.text) and re.search(r'runbook: ".+"', alert.text), alert.name


def test_every_alert_has_a_promtool_test() -> None:
    tested = set(re.findall(r"alertname: (\S+)", (OBSERVABILITY / "rules" / "tests.yaml").read_text()))
    assert tested == {rule.name for rule in rules() if rule.kind == "alert"}


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(movieclassifier_encoder_refused_total[5m])",
        'movieclassifier_encoder_queue_seconds{class="batch"}',
        'movieclassifier_encoder_queue_seconds{lane="online"}',
        "sum by (reason) (movieclassifier_encoder_sessions)",
        'movieclassifier_rpc_seconds_count{code=~"OK|SOMETHING"}',
        'up{job="encoder"}',
        "movieclassifier_rpc_seconds",
    ],
)
def test_detects_misspelt_expressions(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check(wrong)
