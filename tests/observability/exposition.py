"""What a service's /metrics says, read from OpenMetrics text."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass, field

SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Family:
    """A metric with all that was scraped of it."""

    type: str
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    """Name, labels and value."""

    def total(self, suffix: str, labels: dict[str, str]) -> float:
        """The sum of the samples with that end of their name and those labels."""
        return sum(
            value
            for name, have, value in self.samples
            if name.endswith(suffix) and labels.items() <= have.items()
        )


def scrape(address: str) -> dict[str, Family]:
    """Families by the names of METRICS.md, which for counters are those of their samples."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        text = answer.read().decode()
    assert text.endswith("# EOF\n"), "the text was cut off"
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
