"""Clients behind the example proxies of deploy/proxies: TLS and HTTP/2 outside, gRPC and REST under a path prefix inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from conftest import channel_to
from error_details import details
from load import CLASSIFIER
from proxied import ORIGIN, Proxy, open_classifier, proxy  # noqa: F401
from reflection import ReflectionClient
from waiting import wait_for

OVERVIEW = "A retired gunslinger defends a frontier town against the hired men of a cattle baron."


@pytest.fixture
def channel(proxy: Proxy) -> Iterator[grpc.Channel]:
    with channel_to(f"localhost:{proxy.port}", proxy.certificate.certificate.read_bytes()) as channel:
        yield channel


def test_rest_works_under_a_prefix(proxy: Proxy) -> None:
    status, _, answer = proxy.post("/movies/v1/movies:classify", {"title": "Dust Creek", "overview": OVERVIEW})
    assert (status, answer["genres"][0]["label"]) == (200, "Western")
    status, headers, _ = proxy.request("GET", "/movies/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert proxy.request("GET", "/v1/model")[0] == 404


def test_problems_arrive_whole(proxy: Proxy) -> None:
    status, headers, problem = proxy.post("/movies/v1/movies:classify", {"title": "Dust Creek", "overview": " "})
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert (problem["reason"], problem["errors"][0]["field"]) == ("EMPTY_TEXT", "overview")


def test_a_batch_larger_than_a_proxys_default_limit_arrives(proxy: Proxy) -> None:
    movies = [{"overview": (OVERVIEW + " ") * 80}] * 200
    assert len(json.dumps(movies)) > 1 << 20
    status, _, answer = proxy.post("/movies/v1/movies:batchClassify", {"movies": movies})
    assert (status, len(answer["results"])) == (200, 200)


def test_pages_of_an_allowed_origin_may_call(proxy: Proxy) -> None:
    path = "/movies/v1/movies:classify"
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    status, headers, _ = proxy.request("OPTIONS", path, headers={"origin": ORIGIN} | asked)
    assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert {"authorization", "content-type"} <= set(headers["access-control-allow-headers"].split(","))
    status, headers, _ = proxy.post(path, {"overview": OVERVIEW}, origin=ORIGIN)
    assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
    # A cache must not give this response to a page of another origin.
    assert "origin" in headers["vary"]
    status, headers, _ = proxy.post(path, {"overview": " "}, origin=ORIGIN)
    assert (status, headers["access-control-allow-origin"]) == (400, ORIGIN)


def test_pages_of_other_origins_may_not_call(proxy: Proxy) -> None:
    _, headers, _ = proxy.post("/movies/v1/movies:classify", {"overview": OVERVIEW}, origin="https://other.example")
    assert "access-control-allow-origin" not in headers


def test_grpc_calls_and_their_errors_pass(channel: grpc.Channel) -> None:
    client = ReflectionClient(channel)
    assert CLASSIFIER in client.services()
    answer = client.call(CLASSIFIER, "Classify", title="Dust Creek", overview=OVERVIEW)
    assert answer.genres[0].label == "Western"
    with pytest.raises(grpc.RpcError) as failure:
        client.call(CLASSIFIER, "Classify", overview=" ")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(failure.value)["ErrorInfo"].reason == "EMPTY_TEXT"


def test_calls_of_the_open_inference_protocol_pass(channel: grpc.Channel) -> None:
    client = ReflectionClient(channel)
    assert client.call("inference.GRPCInferenceService", "ServerLive").live
    assert client.call("inference.GRPCInferenceService", "ModelMetadata", name="genres").name == "genres"


def test_a_stream_larger_than_a_proxys_default_limit_passes(channel: grpc.Channel) -> None:
    overview = (OVERVIEW + " ") * 80
    movies = [{"id": str(index), "overview": overview} for index in range(300)]
    assert len(overview) * len(movies) > 1 << 20
    results = list(ReflectionClient(channel).stream(CLASSIFIER, "ClassifyStream", movies))
    assert sorted(int(result.id) for result in results) == list(range(300))
    assert {result.WhichOneof("result") for result in results} == {"classification"}


def test_a_stream_is_answered_while_it_is_open(channel: grpc.Channel) -> None:
    """A proxy that buffered requests or responses would block this conversation."""
    answers: list[str] = []

    def movies() -> Iterator[dict[str, Any]]:
        for index in range(3):
            wait_for(lambda index=index: len(answers) == index, f"{index} answers before the next movie", seconds=20)
            yield {"id": str(index), "overview": OVERVIEW}

    for result in ReflectionClient(channel).stream(CLASSIFIER, "ClassifyStream", movies()):
        answers.append(result.id)
    assert answers == ["0", "1", "2"]
