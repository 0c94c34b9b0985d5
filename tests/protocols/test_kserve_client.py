"""Both services through KServe's own client: the same vectors and probabilities as by our own API.

In an environment and a process of its own: the package fixes versions of packages that the other clients have newer, and its
messages have the names of those of `tritonclient`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest

pytest.importorskip("kserve", reason="needs a separate environment: run `make test-protocols`")
import httpx  # noqa: E402
from both_services import CLASSIFIER, ENCODER, MODEL, MOVIES, TEXTS, Pair, bits, both_services, call  # noqa: E402
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402


@dataclass(frozen=True)
class Way:
    """A transport of KServe's client, and how it sends texts."""

    transport: str
    raw: bool

    def infer(self, addresses: tuple[str, str], request: InferRequest) -> Any:
        if self.transport == "grpc":
            return with_grpc(addresses, lambda client: client.infer(request))
        return with_rest(lambda client: client.infer(f"http://{addresses[1]}", request, model_name=request.model_name))

    def tensor(self, name: str, texts: list[str]) -> InferInput:
        tensor = InferInput(name, [len(texts)], "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object), binary_data=self.raw)
        if self.transport == "grpc" and not self.raw:
            # Of typed contents, the client wants bytes.
            tensor.data = [text.encode() for text in texts]
        return tensor


def with_grpc(addresses: tuple[str, str], call: Callable[[InferenceGRPCClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with InferenceGRPCClient(addresses[0]) as client:
            return await call(client)

    return asyncio.run(run())


def with_rest(call: Callable[[InferenceRESTClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        try:
            return await call(client)
        finally:
            await client.close()

    return asyncio.run(run())


each_way = pytest.mark.parametrize(
    "way", [Way("grpc", raw=True), Way("grpc", raw=False), Way("rest", raw=True), Way("rest", raw=False)], ids=str
)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with both_services() as running:
        yield running


@pytest.fixture(autouse=True)
def quiet_client() -> None:
    """The client logs a traceback for every error that it raises."""
    logging.getLogger("kserve").setLevel(logging.CRITICAL)


def outputs(response: Any) -> dict[str, np.ndarray]:
    return {output.name: output.as_numpy() for output in response.outputs}


@each_way
def test_vectors_are_those_of_encode(pair: Pair, way: Way) -> None:
    expected = call(pair.encoder[0], ENCODER, "Encode", texts=TEXTS)
    response = way.infer(pair.encoder, InferRequest(MODEL, [way.tensor("TEXT", TEXTS)], request_id="7"))
    found = outputs(response)
    assert (found["VECTOR"].dtype, found["VECTOR"].shape) == (np.float32, (len(TEXTS), 512))
    assert [vector.tobytes() for vector in found["VECTOR"]] == [bits(one.values) for one in expected.embeddings]
    assert found["TOKENS"].tolist() == [one.token_count for one in expected.embeddings]
    assert found["TRUNCATED"].tolist() == [text.startswith("rain") for text in TEXTS]
    assert (response.id, response.model_name) == ("7", MODEL)


@each_way
def test_probabilities_are_those_of_batch_classify(pair: Pair, way: Way) -> None:
    movies = [{"title": title, "overview": overview} for title, overview in MOVIES]
    expected = call(pair.classifier[0], CLASSIFIER, "BatchClassify", movies=movies, include_scores=True)
    titles, overviews = (list(column) for column in zip(*MOVIES, strict=True))
    inputs = [way.tensor("OVERVIEW", overviews), way.tensor("TITLE", titles)]
    found = outputs(way.infer(pair.classifier, InferRequest("genres", inputs)))
    labels = [label.decode() if isinstance(label, bytes) else label for label in found["LABELS"]]
    assert labels == [score.label for score in expected.results[0].scores]
    for index, of_movie in enumerate(expected.results):
        assert found["PROBABILITY"][index].tobytes() == bits([score.probability for score in of_movie.scores])
        predicted = {label for label, is_predicted in zip(labels, found["PREDICTED"][index], strict=True) if is_predicted}
        assert predicted == {genre.label for genre in of_movie.genres}


def test_health(pair: Pair) -> None:
    for addresses, model in ((pair.encoder, MODEL), (pair.classifier, "genres")):
        for check in ("is_server_live", "is_server_ready"):
            assert with_grpc(addresses, lambda client: getattr(client, check)()) is True  # noqa: B023
            assert with_rest(lambda client: getattr(client, check)(f"http://{addresses[1]}")) is True  # noqa: B023
        assert with_grpc(addresses, lambda client: client.is_model_ready(model)) is True  # noqa: B023
        assert with_rest(lambda client: client.is_model_ready(f"http://{addresses[1]}", model)) is True  # noqa: B023


@each_way
def test_errors_name_the_wrong_tensor(pair: Pair, way: Way) -> None:
    for model, tensor, status, named in (
        (MODEL, "TEXTS", 400, "TEXT"),
        ("another", "TEXT", 404, "another"),
    ):
        with pytest.raises((grpc.RpcError, httpx.HTTPStatusError)) as caught:
            way.infer(pair.encoder, InferRequest(model, [way.tensor(tensor, ["x"])]))
        error = caught.value
        if isinstance(error, httpx.HTTPStatusError):
            assert (error.response.status_code, named in error.response.json()["error"]) == (status, True)
        else:
            expected = {400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND}[status]
            assert (error.code(), named in error.details()) == (expected, True)
