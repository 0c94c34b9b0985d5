"""METRICS.md lists exactly the metrics, types and labels that the services export."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from metrics_table import SERVICES, Metric, table

if TYPE_CHECKING:
    from running_pair import Pair

pytest_plugins = ["running_pair"]

RULE = re.compile(r"movieclassifier_[a-z]+(_[a-z]+)*")
GAUGES_AND_HISTOGRAMS = {"bytes", "seconds", "texts", "tokens", "calls", "sessions", "replicas", "names", "ratio", "info"}
COUNTED = {"evictions", "texts", "requests", "attempts", "retries", "hedges", "reloads", "hits", "misses", "joins"}

service = pytest.mark.parametrize("service", SERVICES)


def obeys(metric: Metric) -> bool:
    counter = metric.type == "counter"
    end = f"_{metric.unit}_total" if counter else f"_{metric.unit}"
    units = COUNTED if counter else GAUGES_AND_HISTOGRAMS
    return bool(RULE.fullmatch(metric.name)) and metric.name.endswith(end) and metric.unit in units


def test_every_name_ends_in_its_unit() -> None:
    metrics = [metric for service in SERVICES for metric in table(service)]
    assert [metric.name for metric in metrics if not obeys(metric)] == []


def test_shared_metrics_are_equal_in_both_services() -> None:
    encoder, classifier = ({m.name: (m.type, m.unit, m.labels) for m in table(service)} for service in SERVICES)
    shared = encoder.keys() & classifier.keys()
    assert shared, "expected shared metrics of calls"
    assert {name: encoder[name] for name in shared} == {name: classifier[name] for name in shared}


@service
def test_table_lists_exactly_the_scraped_metrics(pair: Pair, service: str) -> None:
    names = [metric.name for metric in table(service)]
    assert len(names) == len(set(names)), "expected one row per metric"
    assert set(names) == set(pair.scrape(service))


@service
def test_types_and_labels_match_the_table(pair: Pair, service: str) -> None:
    scraped = pair.scrape(service)
    for metric in table(service):
        family = scraped[metric.name]
        assert family.type == metric.type, metric.name
        expected = metric.series()
        assert {name for name, _, _ in family.samples} == set(expected), metric.name
        for name, labels, _ in family.samples:
            assert set(labels) == set(expected[name]), name
            for label, values in metric.labels.items():
                assert not values or labels[label] in values, f"{name}: {label}={labels[label]} is not listed"


@service
def test_info_metrics_are_1(pair: Pair, service: str) -> None:
    scraped = pair.scrape(service)
    infos = [metric for metric in table(service) if metric.unit == "info"]
    assert infos
    for metric in infos:
        assert [value for _, _, value in scraped[metric.name].samples] == [1.0]


def test_counters_match_the_calls_made(pair: Pair) -> None:
    encoder, classifier = (pair.scrape(service) for service in SERVICES)
    calls = classifier["movieclassifier_rpc_seconds"]
    classify = {"method": "movieclassifier.classifier.v1.ClassifierService/Classify"}
    assert calls.total("_count", {**classify, "code": "OK"}) == 2
    assert calls.total("_count", {**classify, "code": "INVALID_ARGUMENT"}) == 1
    assert classifier["movieclassifier_model_reloads_total"].total("", {"outcome": "rejected"}) >= 1
    assert encoder["movieclassifier_encoder_rejected_requests_total"].total("", {"class": "online"}) > 0
    assert encoder["movieclassifier_encoder_cache_hits_total"].total("", {}) > 0
