"""The package with the real services: results, errors, TLS, keys, restarts."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import pickle
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Certificate, self_signed
from conftest import BINARIES, ROOT, Services, free_port, start, stop, wait_until_serving

pytest.importorskip("built_package", reason="needs an environment of its own: run `make test-python-client`")
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from movieclassifier import (
    AsyncClassifier,
    Classification,
    Classifier,
    Encoder,
    InvalidRequest,
    Movie,
    ServiceError,
    Tls,
    Unauthenticated,
    Unavailable,
)
from movieclassifier.classifier.v1 import classifier_service_pb2 as wire
from movieclassifier.classifier.v1 import classifier_service_pb2_grpc as service

TITLE = "Dust Creek"
OVERVIEW = "A gunslinger defends a frontier town against a cattle baron. He falls in love with the schoolteacher."


@pytest.fixture
def classifier(services: Services) -> Iterator[Classifier]:
    with Classifier(services.classifier, deadline=60) as found:
        yield found


def movies(count: int) -> list[Movie]:
    return [
        Movie(f"On day {number} a gunslinger rides into town {number % 7}.", f"Movie {number}")
        for number in range(count)
    ]


def test_classifies_a_movie_with_scores_and_an_explanation(classifier: Classifier) -> None:
    result = classifier.classify(OVERVIEW, TITLE, include_scores=True, explain=True)
    assert "Western" in result.labels
    assert [genre.probability for genre in result.genres] == sorted(
        (g.probability for g in result.genres), reverse=True
    )
    assert all(genre.probability > genre.threshold for genre in result.genres)
    assert tuple(score.label for score in result.scores) == classifier.model().labels
    assert [segment.source for segment in result.explanation] == ["title", "overview", "overview"]
    plain = classifier.classify(OVERVIEW, TITLE)
    assert (plain.genres, plain.scores, plain.explanation) == (result.genres, (), ())


def test_the_trainers_table_of_results_equals_the_stream_bit_for_bit(
    services: Services, classifier: Classifier, tmp_path: Path
) -> None:
    given = [*movies(60), Movie("A ship. " * 400, "Long"), Movie("Caf\u00e9 and cafe\u0301 in the rain.")]
    with (tmp_path / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["title", "overview"])
        writer.writerows((movie.title, movie.overview) for movie in given)
    command = [BINARIES / "trainer", "classify", "--input", tmp_path / "movies.csv", "--output", tmp_path / "genres.parquet"]
    subprocess.run([*command, "--encoder", f"http://{services.encoder}"], cwd=ROOT, check=True, timeout=300)
    rows = pq.read_table(tmp_path / "genres.parquet").to_pylist()
    results = list(classifier.classify_many(given, include_scores=True))
    assert len(rows) == len(results) == len(given)
    for row, result in zip(rows, results, strict=True):
        assert row["probabilities"] == [score.probability for score in result.scores]
        assert (tuple(row["labels"]), row["truncated"], row["error"]) == (result.labels, result.truncated, None)
    assert [row["truncated"] for row in rows].count(True) == 1


def test_a_call_may_replace_the_thresholds(services: Services, classifier: Classifier) -> None:
    scores = classifier.classify(OVERVIEW, include_scores=True).scores
    ranked = sorted(scores, key=lambda score: -score.probability)
    above = tuple(score.label for score in ranked if score.probability > 0.25)
    options: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"top_k": 3}, tuple(score.label for score in ranked[:3])),
        ({"min_probability": 0.25}, above),
        ({"min_probability": 0.25, "top_k": 1}, above[:1]),
        ({"min_probability": 1.0}, ()),
    ]

    async def asynchronous(wanted: dict[str, Any]) -> list[Classification]:
        async with AsyncClassifier(services.classifier, deadline=60) as other:
            many = [result async for result in other.classify_many([OVERVIEW], **wanted)]
            return [await other.classify(OVERVIEW, **wanted), *many]

    for wanted, expected in options:
        found = [classifier.classify(OVERVIEW, **wanted), *classifier.classify_many([OVERVIEW], **wanted)]
        found += asyncio.run(asynchronous(wanted))
        assert [result.labels for result in found] == [expected] * 4
        table = pa.table({"overview": [OVERVIEW]})
        assert classifier.classify_frame(table, title=None, **wanted)["labels"].to_pylist() == [list(expected)]
    with pytest.raises(InvalidRequest) as raised:
        classifier.classify(OVERVIEW, min_probability=1.5)
    assert [violation.field for violation in raised.value.violations] == ["min_probability"]
    with pytest.raises(ValueError, match="-1"):
        classifier.classify_many([OVERVIEW], top_k=-1)


def test_describes_the_model(classifier: Classifier) -> None:
    model = classifier.model()
    assert len(model.labels) == len(model.thresholds) == 20
    assert len(model.encoder_fingerprint) == 64 and model.max_batch_size > 0 and model.metrics


def test_many_movies_equal_the_service_s_own_stream_bit_for_bit(services: Services, classifier: Classifier) -> None:
    sent = movies(100)
    with grpc.insecure_channel(services.classifier) as channel:
        requests = (
            wire.ClassifyStreamRequest(id=str(n), title=movie.title, overview=movie.overview, include_scores=True)
            for n, movie in enumerate(sent)
        )
        answers = service.ClassifierServiceStub(channel).ClassifyStream(requests, timeout=120)
        raw = {int(answer.id): answer.classification for answer in answers}
    results = list(classifier.classify_many(sent, include_scores=True))
    assert len(results) == len(raw) == 100
    for number, result in enumerate(results):
        assert [(s.label, s.probability) for s in result.scores] == [
            (s.label, s.probability) for s in raw[number].scores
        ]
        assert result.labels == tuple(genre.label for genre in raw[number].genres)


def test_both_clients_agree(services: Services, classifier: Classifier) -> None:
    async def results() -> tuple[Classification, list[Classification | ServiceError]]:
        async with AsyncClassifier(services.classifier, deadline=60) as other:
            many = [result async for result in other.classify_many([*movies(20), " "], errors="return")]
            assert await other.model() == classifier.model()
            return await other.classify(OVERVIEW, TITLE), many

    one, many = asyncio.run(results())
    assert one == classifier.classify(OVERVIEW, TITLE)
    assert many[:20] == list(classifier.classify_many(movies(20)))
    assert isinstance(many[20], InvalidRequest)


def test_an_error_has_the_reason_and_the_field(classifier: Classifier) -> None:
    with pytest.raises(InvalidRequest) as raised:
        classifier.classify(" ")
    error = raised.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_TEXT")
    assert [violation.field for violation in error.violations] == ["overview"]
    assert str(error).startswith("EMPTY_TEXT: ")
    other = pickle.loads(pickle.dumps(error))
    assert (type(other), other.reason, other.violations, str(other)) == (
        InvalidRequest,
        error.reason,
        error.violations,
        str(error),
    )


def test_a_movie_larger_than_a_message_fails_alone(classifier: Classifier) -> None:
    sent = [*movies(10), Movie("x" * (8 << 20)), *movies(10)]
    results = list(classifier.classify_many(sent, errors="return"))
    assert [number for number, result in enumerate(results) if isinstance(result, ServiceError)] == [10]
    assert isinstance(results[10], InvalidRequest) and results[10].index == 10


def test_a_restart_of_the_classifier_loses_and_doubles_no_movie(services: Services) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = ("classifier-svc", "serve", "--listen", address, "--rest-listen", f"127.0.0.1:{free_port()}")
    command += ("--encoder", f"http://{services.encoder}")
    process = start(*command)
    wait_until_serving(address, process)
    read = threading.Event()

    def counted() -> Iterator[Movie]:
        for number, movie in enumerate(movies(400)):
            if number == 120:
                read.set()
            yield movie

    processes = [process]

    def restart() -> None:
        read.wait(60)
        processes[0].kill()
        processes[0].wait()
        time.sleep(0.5)
        processes.append(start(*command))

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        with Classifier(address) as classifier:
            results = list(classifier.classify_many(counted(), window=64))
    finally:
        read.set()
        thread.join()
        stop(processes[-1])
    with Classifier(services.classifier) as classifier:
        assert results == list(classifier.classify_many(movies(400)))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(services: Services, authority: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a classifier that asks for a client certificate and the API key "sesame"."""
    folder = tmp_path_factory.mktemp("secured")
    digest = hashlib.sha256(b"sesame").hexdigest()
    settings = folder / "settings.toml"
    tls = f'{authority.settings()}client_ca = "{authority.certificate}"\n'
    settings.write_text(f'{tls}\n[[auth.keys]]\nname = "tests"\nsha256 = "{digest}"\n')
    address = f"127.0.0.1:{free_port()}"
    listeners = ("--listen", address, "--rest-listen", f"127.0.0.1:{free_port()}")
    process = start(
        "classifier-svc", "serve", "--config", str(settings), *listeners, "--encoder", f"http://{services.encoder}"
    )
    files = (authority.certificate.read_bytes(), authority.key.read_bytes(), authority.certificate.read_bytes())
    try:
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(*files)) as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
        yield address
    finally:
        stop(process)


def test_mutual_tls_and_a_key(secured: str, authority: Certificate) -> None:
    tls = Tls(ca=authority.certificate, certificate=authority.certificate, key=authority.key)
    with Classifier(f"https://{secured}", tls=tls, api_key="sesame") as classifier:
        assert "Western" in classifier.classify(OVERVIEW).labels
    with Classifier(secured, tls=tls, api_key="wrong") as classifier:
        with pytest.raises(Unauthenticated) as raised:
            classifier.classify(OVERVIEW)
        assert raised.value.reason == "UNAUTHENTICATED"
        with pytest.raises(Unauthenticated):
            list(classifier.classify_many([OVERVIEW], errors="return"))

    async def call() -> tuple[str, ...]:
        async with AsyncClassifier(secured, tls=tls, api_key="sesame") as other:
            return (await other.classify(OVERVIEW)).labels

    assert "Western" in asyncio.run(call())


@pytest.mark.parametrize("tls", [False, True, "authority"])
def test_without_the_certificates_there_is_no_connection(secured: str, authority: Certificate, tls: bool | str) -> None:
    found = Tls(ca=authority.certificate) if tls == "authority" else bool(tls)
    with (
        Classifier(secured, tls=found, api_key="sesame", deadline=5) as classifier,
        pytest.raises(Unavailable) as raised,
    ):
        classifier.classify(OVERVIEW)
    assert "sesame" not in str(raised.value)


def test_contradictory_tls_is_rejected() -> None:
    with pytest.raises(ValueError, match="both a certificate and a key"):
        Tls(certificate="client.pem")
    with pytest.raises(ValueError, match="expected an address with https"):
        Classifier("http://localhost:1", tls=True)
    with pytest.raises(OSError, match=r"no-such\.pem"):
        Classifier("localhost:1", tls=Tls(ca="no-such.pem"))


@pytest.fixture
def encoder(services: Services) -> Iterator[Encoder]:
    with Encoder(services.encoder) as found:
        yield found


def test_vectors_are_an_array_in_the_order_of_the_texts(encoder: Encoder) -> None:
    info = encoder.info()
    texts = [f"text {number}" for number in range(info.max_batch_size + 3)]
    vectors = encoder.encode(texts)
    assert (vectors.shape, vectors.dtype) == ((len(texts), info.dimension), np.float32)
    batches = list(encoder.encode_many(texts))
    assert [len(batch.values) for batch in batches] == [info.max_batch_size, 3]
    assert {batch.fingerprint for batch in batches} == {info.fingerprint}
    assert (np.concatenate([batch.values for batch in batches]) == vectors).all()
    assert (encoder.encode(texts[-1:]) == vectors[-1:]).all()
    assert batches[1].token_counts.shape == batches[1].truncated.shape == (3,) and not batches[1].truncated.any()


def test_no_text_is_an_array_without_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 512)


def test_a_long_text_is_reported_as_truncated(encoder: Encoder) -> None:
    (batch,) = encoder.encode_many(["A short text.", "word " * 1000])
    assert batch.truncated.tolist() == [False, True]


def test_a_blank_text_names_its_batch(encoder: Encoder) -> None:
    with pytest.raises(InvalidRequest) as raised:
        encoder.encode(["good", " "])
    assert [violation.field for violation in raised.value.violations] == ["texts[1]"] and raised.value.index == 0
