"""Parses the OpenMetrics text of a service's /metrics."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass, field

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Family:
    """A metric with its scraped samples."""

    type: str
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    """Name, labels and value of each sample."""

    def total(self, suffix: str, labels: dict[str, str]) -> float:
        """Returns the sum of the samples with this suffix of their name and these labels."""
        return sum(
            value
            for name, have, value in self.samples
            if name.endswith(suffix) and labels.items() <= have.items()
        )


def scrape(address: str) -> dict[str, Family]:
    """Returns families by the names of METRICS.md. For counters these are the names of their samples."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"accept": OPEN_METRICS})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        text = response.read().decode()
    assert text.endswith("# EOF\n"), "the text is truncated"
    families: dict[str, Family] = {}
    family = Family("")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            family = families[f"{name}_total" if kind == "counter" else name] = Family(kind)
        elif not line.startswith("#"):
            found = SAMPLE.match(line)
            assert found, f"no sample: {line}"
            labels = dict(LABEL.findall(found["labels"] or ""))
            family.samples.append((found["name"], labels, float(found["value"])))
    return families
