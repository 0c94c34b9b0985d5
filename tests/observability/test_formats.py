"""/metrics in the formats of Prometheus: the scraper's `Accept` decides, and each parser reads its own."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest
from metrics_table import SERVICES, table

if TYPE_CHECKING:
    from running_pair import Pair

pytest_plugins = ["running_pair"]

classic = pytest.importorskip("prometheus_client.parser", reason="install tests/requirements.txt")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TELEGRAF = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
ACCEPTED = [
    (None, TEXT),
    ("*/*", TEXT),
    (TELEGRAF, TEXT),
    ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
    ("application/openmetrics-text;q=0.2,text/plain;q=0.8", TEXT),
    ("application/openmetrics-text;q=0", TEXT),
    (PROMETHEUS, OPEN_METRICS),
    ("application/openmetrics-text;q=0.8,text/plain;q=0.2", OPEN_METRICS),
]
service = pytest.mark.parametrize("service", SERVICES)


def scrape(pair: Pair, service: str, accept: str | None) -> tuple[str, str]:
    headers = {} if accept is None else {"accept": accept}
    request = urllib.request.Request(f"http://{pair.metrics[service]}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["vary"] == "accept"
        return response.headers["content-type"], response.read().decode()


@service
@pytest.mark.parametrize(("accept", "expected"), ACCEPTED)
def test_accept_decides_the_format(pair: Pair, service: str, accept: str | None, expected: str) -> None:
    content_type, text = scrape(pair, service, accept)
    assert content_type == expected
    assert text.endswith("# EOF\n") == (expected == OPEN_METRICS)


@service
def test_the_classic_parser_reads_every_metric_with_its_type(pair: Pair, service: str) -> None:
    _, text = scrape(pair, service, TELEGRAF)
    assert "# TYPE" in text and "# EOF" not in text
    families = list(classic.text_string_to_metric_families(text))
    # The parser names a counter without its suffix.
    found = {family.name + ("_total" if family.type == "counter" else ""): family for family in families}
    assert {name: family.type for name, family in found.items()} == {m.name: m.type for m in table(service)}
    assert all(family.documentation and family.samples for family in families)


@service
def test_the_openmetrics_parser_reads_the_same_samples(pair: Pair, service: str) -> None:
    _, classic_text = scrape(pair, service, TELEGRAF)
    _, text = scrape(pair, service, PROMETHEUS)
    families = list(openmetrics.text_string_to_metric_families(text))
    by_name = {family.name: family for family in families}
    assert len(by_name) == len(families)
    for family in classic.text_string_to_metric_families(classic_text):
        other = by_name[family.name]
        assert (family.type, family.documentation) == (other.type, other.documentation)
        assert {(s.name, *sorted(s.labels.items())) for s in family.samples} == {
            (s.name, *sorted(s.labels.items())) for s in other.samples
        }
