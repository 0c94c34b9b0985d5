"""Reads the expressions of the rules and the dashboard."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics_table import OBSERVABILITY

RULES = [OBSERVABILITY / "rules" / "recording.yaml", OBSERVABILITY / "rules" / "alerts.yaml"]
DASHBOARD = OBSERVABILITY / "grafana" / "dashboard.json"
RULE = re.compile(r"^\s*- (record|alert): (\S+)$")
EXPR = re.compile(r"^(\s*)expr: (.*)$")
VARIABLE_QUERY = re.compile(r"label_values\((.*), *(\w+)\)")


@dataclass(frozen=True)
class Rule:
    """A rule with its full text."""

    kind: str
    name: str
    expression: str
    text: str


def rules_of(path: Path) -> list[Rule]:
    """Reads the rules of a file line by line. promtool checks the YAML syntax."""
    lines = path.read_text().splitlines()
    begins = [index for index, line in enumerate(lines) if RULE.match(line)]
    assert begins, f"{path} has no rules"
    return [_rule(lines[begin:end]) for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True)]


def _rule(lines: list[str]) -> Rule:
    rule = RULE.match(lines[0])
    at = next(index for index, line in enumerate(lines) if EXPR.match(line))
    expr = EXPR.match(lines[at])
    assert rule and expr
    expression = expr[2]
    if expression == "|":
        deeper = expr[1] + " "
        expression = "\n".join(itertools.takewhile(lambda line: line.startswith(deeper), lines[at + 1 :]))
    return Rule(rule[1], rule[2], expression, "\n".join(lines))


def rules() -> list[Rule]:
    """Returns all rules."""
    return [rule for path in RULES for rule in rules_of(path)]


@dataclass(frozen=True)
class Query:
    """An expression of a panel."""

    panel: str
    expression: str


def dashboard() -> dict[str, Any]:
    """Returns the parsed dashboard."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def panels() -> list[dict[str, Any]]:
    """Returns the dashboard's panels without rows."""
    return [panel for panel in _panels(dashboard()["panels"]) if panel["type"] != "row"]


def queries() -> list[Query]:
    """Returns the expressions of the panels."""
    return [Query(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def variable_queries() -> list[tuple[str, str]]:
    """Returns the expression and the label that provide the values of each variable."""
    found = []
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            match = VARIABLE_QUERY.fullmatch(variable["query"]["query"])
            assert match, f"variable {variable['name']}: expected label_values(expression, label)"
            found.append((match[1], match[2]))
    return found


def without_variables(expression: str) -> str:
    """Replaces variables as Grafana does if all jobs and instances are selected."""
    expression = expression.replace("$__rate_interval", "1m")
    return re.sub(r"\$\{?\w+\}?", ".+", expression)
