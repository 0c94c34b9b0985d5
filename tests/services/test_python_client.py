"""A Python client without generated stubs."""

from __future__ import annotations

import grpc
import pytest
from conftest import Services
from error_details import details
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reflection import ReflectionClient

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
ENCODER = "movieclassifier.encoder.v1.EncoderService"
OVERVIEW = (
    "A retired gunslinger rides into a frontier town where a cattle baron holds every deed, and agrees to stand "
    "with the homesteaders when the railway's hired men come for their land."
)


@pytest.fixture
def classifier(services: Services) -> ReflectionClient:
    return ReflectionClient(grpc.insecure_channel(services.classifier))


@pytest.fixture
def encoder(services: Services) -> ReflectionClient:
    return ReflectionClient(grpc.insecure_channel(services.encoder))


def test_reflection_lists_the_services(classifier: ReflectionClient, encoder: ReflectionClient) -> None:
    assert CLASSIFIER in classifier.services() and "grpc.health.v1.Health" in classifier.services()
    assert ENCODER in encoder.services()


@pytest.mark.parametrize("name", ["", CLASSIFIER])
def test_health_reports_serving(services: Services, name: str) -> None:
    with grpc.insecure_channel(services.classifier) as channel:
        response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_classifies_a_movie(classifier: ReflectionClient) -> None:
    response = classifier.call(CLASSIFIER, "Classify", title="Dust Creek", overview=OVERVIEW, include_scores=True)
    assert "Western" in [genre.label for genre in response.genres]
    assert len(response.scores) == 20
    probabilities = [genre.probability for genre in response.genres]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(genre.probability > genre.threshold for genre in response.genres)
    assert response.model_version and not response.truncated


def test_batch_gives_the_same_results_in_order_as_single_calls(classifier: ReflectionClient) -> None:
    movies = [
        {"title": "Dust Creek", "overview": OVERVIEW},
        {"title": "", "overview": "Two sisters inherit a vineyard that is haunted by a murdered child."},
        {"title": "Reef", "overview": "A documentary about the slow death of a coral reef."},
    ]
    batch = classifier.call(CLASSIFIER, "BatchClassify", movies=movies)
    alone = [classifier.call(CLASSIFIER, "Classify", **movie) for movie in movies]
    assert list(batch.results) == alone
    assert {result.model_version for result in batch.results} == {batch.model_version}


def test_model_describes_itself(classifier: ReflectionClient, encoder: ReflectionClient) -> None:
    model = classifier.call(CLASSIFIER, "GetModel")
    assert len(model.labels) == len(model.thresholds) == 20
    assert model.encoder_fingerprint == encoder.call(ENCODER, "GetEncoder").fingerprint
    assert 0.5 < model.metrics["validation_micro_f1"] < 1


@pytest.mark.parametrize("overview", ["", " \n\t", "\u3000"])
def test_rejects_a_blank_overview_and_names_the_field(classifier: ReflectionClient, overview: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        classifier.call(CLASSIFIER, "Classify", title="Dust Creek", overview=overview)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(failure.value)
    assert [violation.field for violation in found["BadRequest"].field_violations] == ["overview"]
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == ("EMPTY_TEXT", "movieclassifier")


def test_rejects_a_batch_and_names_every_invalid_movie(classifier: ReflectionClient) -> None:
    movies = [{"overview": OVERVIEW}, {"overview": ""}, {"title": "t" * 2000, "overview": OVERVIEW}]
    with pytest.raises(grpc.RpcError) as failure:
        classifier.call(CLASSIFIER, "BatchClassify", movies=movies)
    violations = details(failure.value)["BadRequest"].field_violations
    assert [violation.field for violation in violations] == ["movies[1].overview", "movies[2].title"]


def test_truncates_a_very_long_overview_and_reports_it(classifier: ReflectionClient) -> None:
    response = classifier.call(CLASSIFIER, "Classify", overview="The rider went on through the dust. " * 200)
    assert response.truncated
