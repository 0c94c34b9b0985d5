"""Traces across client, classifier and encoder, and their ids in the logs."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from conftest import BINARIES, ROOT, free_port, start, stop, wait_until_serving
from otlp_receiver import Receiver, Span, receiver
from reflection import ReflectionClient

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
ENCODER = "movieclassifier.encoder.v1.EncoderService"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield running


def ancestors(span: Span, spans: list[Span]) -> list[Span]:
    by_id = {other.id: other for other in spans}
    found = []
    while span.parent in by_id:
        span = by_id[span.parent]
        found.append(span)
    return found


def paths(spans: list[Span]) -> list[list[tuple[str, str]]]:
    """Returns the path of each run to the root, as far as spans have arrived. They arrive in batches, in any order."""
    runs = [span for span in spans if span.name == "run"]
    return [[(span.service, span.name) for span in ancestors(run, spans)] for run in runs]


def test_one_trace_covers_client_classifier_and_encoder(collector: Receiver) -> None:
    encoder, classifier = (f"127.0.0.1:{free_port()}" for _ in range(2))
    running = [start("encoder-svc", "serve", "--listen", encoder, "--http-listen", "")]
    try:
        wait_until_serving(encoder, running[0])
        listeners = ("--listen", classifier, "--rest-listen", "")
        running.append(start("classifier-svc", "serve", *listeners, "--encoder", f"http://{encoder}"))
        wait_until_serving(classifier, running[1])
        with grpc.insecure_channel(classifier) as channel:
            interceptor = _WithTraceparent()
            client = ReflectionClient(grpc.intercept_channel(channel, interceptor))
            response = client.call(CLASSIFIER, "Classify", title="", overview="A lighthouse keeper hides a spy.")
            assert response.model_version
        names = {f"{CLASSIFIER}/Classify", f"{ENCODER}/Encode", "session", "encode", "tokenize", "run"}
        spans = collector.wait_for(lambda spans: names <= {span.name for span in spans if span.trace == TRACE})
    finally:
        for process in reversed(running):
            stop(process)
    ours = [span for span in spans if span.trace == TRACE]
    run = next(span for span in ours if span.name == "run")
    assert paths(ours)[0] == [
        ("encoder-svc", "session"),
        ("encoder-svc", f"{ENCODER}/Encode"),
        ("classifier-svc", "encode"),
        ("classifier-svc", f"{CLASSIFIER}/Classify"),
    ]
    assert ancestors(run, ours)[-1].parent == CALLER, "expected the client's span as the parent"


class _WithTraceparent(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def intercept_unary_unary(self, continuation, details, request):  # type: ignore[no-untyped-def]
        details = details._replace(metadata=[*(details.metadata or []), ("traceparent", TRACEPARENT)])
        return continuation(details, request)


def test_bulk_job_and_encoder_share_traces(collector: Receiver, tmp_path: Path) -> None:
    movies = tmp_path / "movies.csv"
    with movies.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["genres", "id", "overview", "title"])
        for number in range(1, 9):
            rows.writerow(["[{'id': 18, 'name': 'Drama'}]", number, f"A town waits for rain number {number}.", "Rain"])
    encoder = f"127.0.0.1:{free_port()}"
    process = start("encoder-svc", "serve", "--listen", encoder, "--http-listen", "")
    try:
        wait_until_serving(encoder, process)
        command = [BINARIES / "trainer", "encode", "--input", movies, "--output", tmp_path / "vectors.parquet"]
        subprocess.run([*command, "--encoder", f"http://{encoder}"], check=True, cwd=ROOT, timeout=120)
        root = ("trainer", "encode")
        spans = collector.wait_for(lambda spans: any(path[-1:] == [root] for path in paths(spans)))
    finally:
        stop(process)
    whole = [path for path in paths(spans) if path[-1:] == [root]]
    assert whole[0] == [("encoder-svc", "session"), ("encoder-svc", f"{ENCODER}/Encode"), root]


def test_logs_have_the_clients_trace_id_without_a_collector(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUST_LOG", "info,service_kit=debug")
    encoder = f"127.0.0.1:{free_port()}"
    log = tmp_path / "log.jsonl"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [BINARIES / "encoder-svc", "serve", "--listen", encoder, "--http-listen", "", "--log-format", "json"],
            cwd=ROOT,
            stderr=sink,
        )
        try:
            wait_until_serving(encoder, process)
            with grpc.insecure_channel(encoder) as channel:
                client = ReflectionClient(grpc.intercept_channel(channel, _WithTraceparent()))
                client.call(ENCODER, "Encode", texts=["A storm."])
        finally:
            stop(process)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    calls = [line for line in lines if line["fields"].get("method") == f"{ENCODER}/Encode"]
    assert [call["fields"]["code"] for call in calls] == ["OK"]
    assert calls[0]["span"]["trace_id"] == TRACE
