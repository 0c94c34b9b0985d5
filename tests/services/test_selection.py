"""`include_scores`, `min_probability` and `top_k`: every way to classify a movie gives the same response."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from conftest import Services
from error_details import details
from google.protobuf import json_format
from reflection import ReflectionClient

SERVICE = "movieclassifier.classifier.v1.ClassifierService"
MOVIE = {"title": "Dust Creek", "overview": "A gunslinger defends a frontier town against a cattle baron."}


@pytest.fixture(scope="module")
def client(services: Services) -> Any:
    with grpc.insecure_channel(services.classifier) as channel:
        yield ReflectionClient(channel)


def post(services: Services, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        services.rest + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def rounded(response: dict[str, Any]) -> dict[str, Any]:
    """The response with the numbers of both transports in the same precision."""
    for score in [*response["genres"], *response.setdefault("scores", [])]:
        score["probability"], score["threshold"] = (round(score[key], 5) for key in ("probability", "threshold"))
    return response


def answers(client: Any, services: Services, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The response of each way to classify `MOVIE` with `options`."""

    def of_message(message: Any) -> dict[str, Any]:
        return rounded(
            json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )

    batch = client.call(SERVICE, "BatchClassify", movies=[MOVIE, MOVIE], **options)
    stream = list(client.stream(SERVICE, "ClassifyStream", [{"id": "1", **MOVIE, **options}]))
    _, one = post(services, "/v1/movies:classify", MOVIE | options)
    _, several = post(services, "/v1/movies:batchClassify", {"movies": [MOVIE], **options})
    return {
        "Classify": of_message(client.call(SERVICE, "Classify", **MOVIE, **options)),
        "BatchClassify": of_message(batch.results[1]),
        "ClassifyStream": of_message(stream[0].classification),
        "REST": rounded(one),
        "REST batch": rounded(several["results"][0]),
    }


OPTIONS: list[dict[str, Any]] = [
    {},
    {"include_scores": True},
    {"min_probability": 0.05},
    {"min_probability": 0.0, "include_scores": True},
    {"min_probability": 1.0},
    {"top_k": 3},
    {"top_k": 1000},
    {"top_k": 2, "min_probability": 0.01, "include_scores": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_way_gives_the_same_response(client: Any, services: Services, options: dict[str, Any]) -> None:
    first, *others = answers(client, services, options).items()
    for other in others:
        assert other[1] == first[1], f"{other[0]} differs from {first[0]}"
    response = first[1]
    assert len(response["scores"]) == (20 if options.get("include_scores") else 0)
    found = {genre["label"]: genre["probability"] for genre in response["genres"]}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    _, everything = post(services, "/v1/movies:classify", MOVIE | {"include_scores": True})
    ranked = sorted(everything["scores"], key=lambda score: -score["probability"])
    if "min_probability" in options:
        ranked = [score for score in ranked if score["probability"] > options["min_probability"]]
        assert all(genre["threshold"] == round(options["min_probability"], 5) for genre in response["genres"])
    elif "top_k" not in options:
        ranked = [score for score in ranked if score["probability"] > score["threshold"]]
    assert list(found) == [score["label"] for score in ranked[: options.get("top_k", 20)]]


@pytest.mark.parametrize(
    ("field", "value"),
    [("min_probability", 1.5), ("min_probability", -0.1), ("min_probability", float("nan")), ("top_k", 0)],
)
def test_an_impossible_value_names_its_field(client: Any, services: Services, field: str, value: float) -> None:
    with pytest.raises(grpc.RpcError) as single:
        client.call(SERVICE, "Classify", **MOVIE, **{field: value})
    with pytest.raises(grpc.RpcError) as batch:
        client.call(SERVICE, "BatchClassify", movies=[MOVIE], **{field: value})
    for failure in (single.value, batch.value):
        assert failure.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert details(failure)["BadRequest"].field_violations[0].field == field
        assert details(failure)["ErrorInfo"].reason == "OUT_OF_RANGE"
    items = [{"id": "bad", **MOVIE, field: value}, {"id": "good", **MOVIE}]
    stream = {item.id: item for item in client.stream(SERVICE, "ClassifyStream", items)}
    assert stream["bad"].error.reason == "OUT_OF_RANGE" and field in stream["bad"].error.message
    assert stream["good"].classification.model_version
    if value == value:  # JSON has no NaN.
        for path, body in (
            ("/v1/movies:classify", MOVIE | {field: value}),
            ("/v1/movies:batchClassify", {"movies": [MOVIE], field: value}),
        ):
            status, problem = post(services, path, body)
            assert (status, problem["reason"], problem["errors"][0]["field"]) == (400, "OUT_OF_RANGE", field)


@pytest.mark.parametrize(("field", "value"), [("top_k", -1), ("top_k", 1.5), ("top_k", 2**32), ("min_probability", "half")])
def test_a_value_of_another_type_names_its_field(services: Services, field: str, value: object) -> None:
    status, problem = post(services, "/v1/movies:classify", MOVIE | {field: value})
    assert (status, problem["reason"], problem["errors"][0]["field"]) == (400, "INVALID_JSON", field)


def test_an_integer_may_be_written_as_a_float(services: Services) -> None:
    three = post(services, "/v1/movies:classify", MOVIE | {"top_k": 3})
    assert post(services, "/v1/movies:classify", MOVIE | {"top_k": 3.0}) == three
    assert three[0] == 200


def test_an_explanation_covers_the_selected_genres(client: Any) -> None:
    movie = MOVIE | {"overview": MOVIE["overview"] + " He falls in love."}
    response = client.call(SERVICE, "Classify", **movie, explain=True, top_k=4)
    shown = [part.label for part in response.explanation.segments[0].contributions]
    assert shown == [genre.label for genre in response.genres] and len(shown) == 4
