"""A program on the generated client. It prints what it receives as JSON, for test_generated_clients.py to check."""

from __future__ import annotations

import json
import sys

from movie_classifier_client import AuthenticatedClient, Client
from movie_classifier_client.api.model import get_model
from movie_classifier_client.api.movies import batch_classify, classify
from movie_classifier_client.api.reference import predict_genre
from movie_classifier_client.models import (
    BatchClassifyRequest,
    BatchClassifyResponse,
    ClassifyRequest,
    ClassifyResponse,
    Model,
    Movie,
    PredictGenreRequest,
    Problem,
)

OVERVIEW = "A retired gunslinger defends a frontier town against the hired men of a cattle baron."


def labels(answer: ClassifyResponse) -> list[str]:
    return [genre.label for genre in answer.genres]


def problem(answer: object) -> dict[str, object]:
    assert isinstance(answer, Problem), answer
    return {"status": answer.status, "reason": answer.reason, "fields": [e.field for e in answer.errors or []]}


def main() -> None:
    address, key = sys.argv[1:]
    client, keyless = AuthenticatedClient(address, token=key), Client(address)
    # mypy accepts these types only if every call fails with the one type Problem.
    body = ClassifyRequest(title="Dust Creek", overview=OVERVIEW, include_scores=True, explain=True)
    one: ClassifyResponse | Problem | None = classify.sync(client=client, body=body)
    assert isinstance(one, ClassifyResponse), one
    movies = [Movie(overview=OVERVIEW), Movie(title="Dust Creek", overview=OVERVIEW)]
    many: BatchClassifyResponse | Problem | None = batch_classify.sync(client=client, body=BatchClassifyRequest(movies))
    assert isinstance(many, BatchClassifyResponse), many
    model: Model | Problem | None = get_model.sync(client=client)
    assert isinstance(model, Model), model
    request = PredictGenreRequest(title=["Dust Creek"], overview=[OVERVIEW])
    reference = predict_genre.sync(client=client, body=request)
    assert isinstance(reference, list), reference
    received = {
        "one": labels(one),
        "scores": len(one.scores or []),
        "segments": [str(segment.source) for segment in one.explanation.segments] if one.explanation else [],
        "many": [labels(result) for result in many.results],
        "labels": len(model.labels),
        "reference": len(reference),
        "blank": problem(classify.sync(client=client, body=ClassifyRequest(overview=" "))),
        "unauthorized": problem(classify.sync(client=keyless, body=ClassifyRequest(overview=OVERVIEW))),
    }
    print(json.dumps(received))


if __name__ == "__main__":
    main()
