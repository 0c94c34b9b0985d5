"""Reads METRICS.md: the metrics of each service with their types, labels and units."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

OBSERVABILITY = Path(__file__).resolve().parents[2] / "deploy" / "observability"
SERVICES = ("encoder-svc", "classifier-svc")


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    name: str
    type: str
    unit: str
    labels: dict[str, frozenset[str]] = field(hash=False)
    """Labels with their values, which are empty if not listed."""

    def series(self) -> dict[str, dict[str, frozenset[str]]]:
        """Returns the names of the scraped series, each with its labels."""
        if self.type != "histogram":
            return {self.name: self.labels}
        bucket = {**self.labels, "le": frozenset[str]()}
        return {f"{self.name}_bucket": bucket, f"{self.name}_sum": self.labels, f"{self.name}_count": self.labels}


def _labels(cell: str) -> dict[str, frozenset[str]]:
    labels = {}
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        name, *values = re.findall(r"`([^`]+)`", part)
        labels[name] = frozenset(values)
    return labels


def table(service: str) -> list[Metric]:
    """Returns the rows of a service."""
    text = (OBSERVABILITY / "METRICS.md").read_text()
    section = text.split(f"\n## {service}\n")[1].split("\n## ")[0]
    rows = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            assert len(cells) == 6, f"expected a row of six cells, found: {line}"
            name, kind, labels, unit, *_ = cells
            rows.append(Metric(name.strip("`"), kind, unit, _labels(labels)))
    assert rows, f"METRICS.md: expected a table of {service}"
    return rows
