"""Both services through Triton's client: the same vectors and probabilities as by our own API, and errors that it knows."""

from __future__ import annotations

import hashlib
import http.client
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from both_services import CLASSIFIER, ENCODER, MODEL, MOVIES, TEXTS, Pair, addresses, bits, both_services, call
from conftest import channel_to, start, stop, wait_until_serving
from google.protobuf.json_format import MessageToDict
from reflection import ReflectionClient
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

OPEN_INFERENCE = "inference.GRPCInferenceService"
KEY = "one-key-for-the-tests"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with both_services() as running:
        yield running


@pytest.fixture(scope="module")
def vectors(pair: Pair) -> list[bytes]:
    """The vectors of `Encode`, as bytes."""
    response = call(pair.encoder[0], ENCODER, "Encode", texts=TEXTS)
    return [bits(embedding.values) for embedding in response.embeddings]


@dataclass(frozen=True)
class Way:
    """One of the two transports of Triton's client."""

    name: str
    package: Any
    options: dict[str, Any]
    """Of `set_data_from_numpy` and `InferRequestedOutput`."""

    def client(self, addresses: tuple[str, str]) -> Any:
        return self.package.InferenceServerClient(addresses[0 if self.package is triton_grpc else 1])

    def tensor(self, name: str, texts: list[str] | np.ndarray, shape: list[int] | None = None) -> Any:
        values = np.array([text.encode() for text in texts], dtype=object) if isinstance(texts, list) else texts
        tensor = self.package.InferInput(name, shape or list(values.shape), "BYTES")
        tensor.set_data_from_numpy(values.reshape(tensor.shape()), **self.options)
        return tensor

    def output(self, name: str) -> Any:
        return self.package.InferRequestedOutput(name, **self.options)


WAYS = [
    Way("grpc", triton_grpc, {}),
    Way("http, raw", triton_http, {"binary_data": True}),
    Way("http, json", triton_http, {"binary_data": False}),
]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


@each_way
def test_vectors_are_those_of_encode(pair: Pair, vectors: list[bytes], way: Way) -> None:
    outputs = [way.output(name) for name in ("VECTOR", "TOKENS", "TRUNCATED")]
    for shape in ([len(TEXTS)], [len(TEXTS), 1]):
        inputs = [way.tensor("TEXT", TEXTS, shape)]
        result = way.client(pair.encoder).infer(MODEL, inputs, outputs=outputs, request_id="7")
        found = result.as_numpy("VECTOR")
        assert (found.dtype, found.shape) == (np.float32, (len(TEXTS), 512))
        assert [vector.tobytes() for vector in found] == vectors
        assert result.as_numpy("TRUNCATED").tolist() == [text.startswith("rain") for text in TEXTS]
        tokens = result.as_numpy("TOKENS")
        assert (tokens.dtype, tokens[2]) == (np.int32, 256)
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "7"


@each_way
def test_probabilities_are_those_of_batch_classify(pair: Pair, way: Way) -> None:
    movies = [{"title": title, "overview": overview} for title, overview in MOVIES]
    expected = call(pair.classifier[0], CLASSIFIER, "BatchClassify", movies=movies, include_scores=True)
    inputs = [
        way.tensor("OVERVIEW", [overview for _, overview in MOVIES]),
        way.tensor("TITLE", [title for title, _ in MOVIES]),
    ]
    client = way.client(pair.classifier)
    result = client.infer("genres", inputs, outputs=[way.output(n) for n in ("PREDICTED", "PROBABILITY", "LABELS")])
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("LABELS")]
    assert labels == [score.label for score in expected.results[0].scores]
    for index, of_movie in enumerate(expected.results):
        probabilities = result.as_numpy("PROBABILITY")[index]
        assert probabilities.tobytes() == bits([score.probability for score in of_movie.scores])
        predicted = {label for label, is_predicted in zip(labels, result.as_numpy("PREDICTED")[index], strict=True) if is_predicted}
        assert predicted == {genre.label for genre in of_movie.genres}
    assert any(of_movie.genres for of_movie in expected.results)
    # The title is optional, and missing is empty.
    without = client.infer("genres", [way.tensor("OVERVIEW", [MOVIES[1][1]])], outputs=[way.output("PROBABILITY")])
    assert without.as_numpy("PROBABILITY")[0].tobytes() == bits([score.probability for score in expected.results[1].scores])


@each_way
def test_a_request_lists_the_outputs_it_wants(pair: Pair, way: Way) -> None:
    client = way.client(pair.encoder)
    result = client.infer(MODEL, [way.tensor("TEXT", ["x"])], outputs=[way.output("TOKENS")])
    assert result.as_numpy("VECTOR") is None
    everything = client.infer(MODEL, [way.tensor("TEXT", ["x"])])
    assert everything.as_numpy("VECTOR").shape == (1, 512)
    assert everything.as_numpy("TRUNCATED").tolist() == [False]


@each_way
def test_health_and_metadata(pair: Pair, way: Way) -> None:
    for addresses_of, server, model in ((pair.encoder, "encoder-svc", MODEL), (pair.classifier, "classifier-svc", "genres")):
        client = way.client(addresses_of)
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
        metadata = of_json(client.get_server_metadata())
        assert (metadata["name"], metadata["extensions"]) == (server, ["binary_tensor_data", "model_configuration"])
        described = of_json(client.get_model_metadata(model))
        assert described["name"] == model
        assert client.is_model_ready(model, described["versions"][0])
        tensors = {tensor["name"]: (tensor["datatype"], [int(size) for size in tensor["shape"]]) for tensor in described["inputs"]}
        assert tensors == ({"TEXT": ("BYTES", [-1])} if model == MODEL else {"TITLE": ("BYTES", [-1]), "OVERVIEW": ("BYTES", [-1])})
        outputs = {tensor["name"]: (tensor["datatype"], [int(size) for size in tensor["shape"]]) for tensor in described["outputs"]}
        if model == MODEL:
            assert outputs == {"VECTOR": ("FP32", [-1, 512]), "TOKENS": ("INT32", [-1]), "TRUNCATED": ("BOOL", [-1])}
        else:
            assert outputs == {"PROBABILITY": ("FP32", [-1, 20]), "LABELS": ("BYTES", [20]), "PREDICTED": ("BOOL", [-1, 20])}


def of_json(metadata: Any) -> dict[str, Any]:
    """Metadata as HTTP returns it; that of gRPC is a message."""
    if isinstance(metadata, dict):
        return metadata
    return {
        field.name: [of_json(item) if hasattr(item, "DESCRIPTOR") else item for item in value]
        if isinstance(value := getattr(metadata, field.name), (list, tuple)) or hasattr(value, "append") or hasattr(value, "add")
        else value
        for field in metadata.DESCRIPTOR.fields
    }


@each_way
def test_the_configuration_has_the_tensors_of_the_metadata(pair: Pair, way: Way) -> None:
    for addresses_of, model in ((pair.encoder, MODEL), (pair.classifier, "genres")):
        client = way.client(addresses_of)
        config, metadata = client.get_model_config(model), client.get_model_metadata(model)
        if way.package is triton_grpc:
            config, metadata = (MessageToDict(message, preserving_proto_field_name=True) for message in (config.config, metadata))
        assert (config["name"], config["platform"]) == (model, metadata["platform"])
        for of_config, of_metadata in (("input", "inputs"), ("output", "outputs")):
            tensors = [(tensor["name"], [int(size) for size in tensor["dims"]]) for tensor in config[of_config]]
            assert tensors == [(tensor["name"], [int(size) for size in tensor["shape"]]) for tensor in metadata[of_metadata]]
        optional = [tensor["name"] for tensor in config["input"] if tensor.get("optional")]
        assert optional == ([] if model == MODEL else ["TITLE"])


@each_way
def test_the_current_version_can_be_asked_for(pair: Pair, way: Way) -> None:
    client = way.client(pair.classifier)
    version = of_json(client.get_model_metadata("genres"))["versions"][0]
    assert version == call(pair.classifier[0], CLASSIFIER, "GetModel").model_version
    inputs = [way.tensor("OVERVIEW", [MOVIES[0][1]])]
    assert client.infer("genres", inputs, model_version=version).as_numpy("LABELS").shape == (20,)
    for model, wrong in (("genres", "1"), ("genre", ""), ("minilm-512", "")):
        with pytest.raises(InferenceServerException) as error:
            client.infer(model, inputs, model_version=wrong)
        assert error.value.status() in ("404", "StatusCode.NOT_FOUND")
        assert version in error.value.message()


@each_way
def test_priority(pair: Pair, vectors: list[bytes], way: Way) -> None:
    client, inputs = way.client(pair.encoder), [way.tensor("TEXT", TEXTS[:1])]
    for priority in (0, 1, 2):
        result = client.infer(MODEL, inputs, outputs=[way.output("VECTOR")], priority=priority, timeout=5_000_000)
        assert result.as_numpy("VECTOR")[0].tobytes() == vectors[0]
    refused(lambda: client.infer(MODEL, inputs, priority=3), "parameters[priority]", "bulk")


def refused(infer: Callable[[], Any], *parts: str) -> None:
    """Checks that a call fails as invalid, with these parts in its message."""
    with pytest.raises(InferenceServerException) as error:
        infer()
    assert error.value.status() in ("400", "StatusCode.INVALID_ARGUMENT"), error.value
    assert all(part in error.value.message() for part in parts), error.value.message()


@each_way
def test_errors_name_the_wrong_tensor(pair: Pair, way: Way) -> None:
    client, text = way.client(pair.encoder), way.tensor("TEXT", ["x"])
    refused(lambda: client.infer(MODEL, [way.tensor("TEXTS", ["x"])]), "TEXTS", "TEXT")
    refused(lambda: client.infer(MODEL, [text, text]), "TEXT", "once")
    refused(lambda: client.infer(MODEL, []), "TEXT", "found none")
    refused(lambda: client.infer(MODEL, [text], outputs=[way.output("VECTORS")]), "VECTORS", "TOKENS")
    refused(lambda: client.infer(MODEL, [way.tensor("TEXT", np.array([[b"a", b"b"]], dtype=object))]), "TEXT", "[n, 1]", "[1, 2]")
    refused(lambda: client.infer(MODEL, [way.tensor("TEXT", ["a", " ", "b" * 40_000])]), "TEXT[1]", "TEXT[2]", "32768")
    refused(lambda: client.infer(MODEL, [way.tensor("TEXT", ["a"] * 257)]), "TEXT", "256", "257")
    numbers = way.package.InferInput("TEXT", [1], "FP32")
    numbers.set_data_from_numpy(np.array([1], dtype=np.float32), **way.options)
    refused(lambda: client.infer(MODEL, [numbers]), "TEXT", "BYTES", "FP32")
    classifier = way.client(pair.classifier)
    overview, titles = way.tensor("OVERVIEW", ["A heist."]), way.tensor("TITLE", ["a", "b"])
    refused(lambda: classifier.infer("genres", [titles]), "OVERVIEW")
    refused(lambda: classifier.infer("genres", [overview, titles]), "OVERVIEW", "2", "1")
    refused(lambda: classifier.infer("genres", [way.tensor("OVERVIEW", ["A heist.", ""])]), "OVERVIEW[1]")
    refused(lambda: classifier.infer("genres", [overview, way.tensor("TITLE", ["x" * 2000])]), "TITLE[0]")


def element(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<I", len(text) if length is None else length) + text


CLAIMS = [2, 1 << 31, (1 << 63) - 1]


def test_a_message_that_does_not_fit_its_own_claims(pair: Pair) -> None:
    """Requests that no client makes."""
    with channel_to(pair.encoder[0], None) as channel:
        infer = channel.unary_unary(
            f"/{OPEN_INFERENCE}/ModelInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelInferResponse.FromString,
        )

        def message(shape: list[int], raw: list[bytes], **contents: Any) -> Any:
            tensor = {"name": "TEXT", "datatype": "BYTES", "shape": shape}
            if contents:
                tensor["contents"] = contents
            return service_pb2.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=raw)

        typed = infer(message([2], [], bytes_contents=[b"A pilot.", b"x"]))
        assert not typed.raw_output_contents
        raw = infer(message([2], [element(b"A pilot.") + element(b"x")]))
        assert bits(typed.outputs[0].contents.fp32_contents) == raw.raw_output_contents[0]
        assert struct.pack("<2i", *typed.outputs[1].contents.int_contents) == raw.raw_output_contents[1]
        wrong = [
            message([1], [element(b"x")], bytes_contents=[b"x"]),
            message([1], [element(b"x"), element(b"x")]),
            message([1], []),
            message([1], [element(b"x") + b"\0"]),
            message([1], [], fp32_contents=[1.0]),
            message([1], [], bytes_contents=[b"\xff"]),
            message([-1], [element(b"x")]),
            *(message([claim], [element(b"x")]) for claim in CLAIMS),
            *(message([1], [element(b"x", claim)]) for claim in (2, 1 << 31, (1 << 32) - 1)),
        ]
        for request in wrong:
            with pytest.raises(grpc.RpcError) as error:
                infer(request, timeout=10)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, (request, error.value)
        # Millions of empty tensors are not decoded.
        many = service_pb2.ModelInferRequest(model_name=MODEL).SerializeToString() + b"\x2a\x00" * 4_000_000
        post = channel.unary_unary(f"/{OPEN_INFERENCE}/ModelInfer", None, None)
        with pytest.raises(grpc.RpcError) as error:
            post(many, timeout=10)
        assert (error.value.code(), "64 fields" in error.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def post(address: str, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    """Posts to an HTTP listener; returns the status, and the body as JSON."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://{address}{path}", body or None, {"content-type": "application/json"} | sent)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


INFER = f"/v2/models/{MODEL}/infer"


def test_a_body_that_does_not_fit_its_own_claims(pair: Pair) -> None:
    def body(shape: list[int], **more: Any) -> bytes:
        return json.dumps({"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": shape, **more}]}).encode()

    def announced(shape: list[int], size: int) -> bytes:
        return body(shape, parameters={"binary_data_size": size})

    status, response = post(pair.encoder[1], INFER, body([2, 1], data=[["A pilot."], ["x"]]))
    assert (status, response["model_name"], response["outputs"][0]["shape"]) == (200, MODEL, [2, 512])
    json_of = announced([1], 5)
    lengths = {"inference_header_content_length": str(len(json_of))}
    wrong: list[tuple[bytes, dict[str, str]]] = [
        (b"", {}),
        (b"{", {}),
        (b"[]", {}),
        (b"{}", {}),
        (body([1], data=["x"])[:-1], {}),
        (body([1]), {}),
        (body([1], data=[1]), {}),
        (body([1], data="x"), {}),
        (body([1], data=[None]), {}),
        (body([1 << 64], data=["x"]), {}),
        (body([1], data=["x"], parameters={"binary_data_size": 1}), {}),
        (json_of, {}),
        (json_of + element(b"xy"), lengths),
        (json_of + element(b"")[:3], lengths),
        (json_of + element(b"x", 1 << 31), lengths),
        (json_of + element(b"\xff"), lengths),
        (json_of, {"inference_header_content_length": "999999999999"}),
        (json_of, {"inference_header_content_length": "-1"}),
        (announced([1], -1), {}),
        (announced([1], 1 << 31), {}),
        (body([1], data=["x"], parameters={"shared_memory_region": "r"}), {}),
        *((body([claim], data=["x"]), {}) for claim in CLAIMS),
    ]
    for sent, headers in wrong:
        status, response = post(pair.encoder[1], INFER, sent, **headers)
        expected = 405 if not sent else 400
        assert (status, list(response)) == (expected, ["error"]), (sent, headers, status, response)
        assert response["error"]
    assert post(pair.encoder[1], INFER, b"x", content_type="text/plain")[0] == 415
    assert post(pair.encoder[1], INFER, b"x", content_encoding="gzip")[0] == 415
    # A body that is too large is not read.
    connection = http.client.HTTPConnection(pair.encoder[1], timeout=10)
    connection.putrequest("POST", INFER)
    connection.putheader("content-length", str(1 << 31))
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, list(json.load(response))) == (413, ["error"])
    connection.close()


def test_the_descriptors_are_those_of_triton(pair: Pair) -> None:
    """Names, numbers and types of the fields, as Triton's client has them, by the reflection of the service."""
    with channel_to(pair.encoder[0], None) as channel:
        client = ReflectionClient(channel)
        assert OPEN_INFERENCE in client.services()
        ours = client.method(OPEN_INFERENCE, "ModelInfer")[1].DESCRIPTOR.file
    configuration = dict(model_config_pb2.DESCRIPTOR.message_types_by_name)
    theirs = configuration | dict(service_pb2.DESCRIPTOR.message_types_by_name)

    def compare(found: Any, expected: Any) -> int:
        fields = {field.name: (field.number, field.type, field.is_repeated) for field in found.fields}
        published = {field.name: (field.number, field.type, field.is_repeated) for field in expected.fields}
        # Of a configuration, the services have only a part.
        assert fields.items() <= published.items(), found.full_name
        assert found.name in configuration or len(fields) == len(published), found.full_name
        nested = [compare(message, expected.nested_types_by_name[message.name]) for message in found.nested_types]
        return len(fields) + sum(nested)

    messages = ours.message_types_by_name.values()
    assert sum(compare(message, theirs[message.name]) for message in messages) > 60
    datatypes = {value.name: value.number for value in ours.enum_types_by_name["DataType"].values}
    assert datatypes.items() <= dict(model_config_pb2.DataType.items()).items()
    for method in ("ModelConfig", "ModelInfer"):
        assert method in ours.services_by_name["GRPCInferenceService"].methods_by_name


def test_only_probes_need_no_key(tmp_path: Path) -> None:
    settings = tmp_path / "encoder.toml"
    settings.write_text(f'[[auth.keys]]\nname = "a"\nsha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"\n')
    encoder = addresses()
    process = start("encoder-svc", "serve", "--config", str(settings), "--listen", encoder[0], "--http-listen", encoder[1])
    try:
        wait_until_serving(encoder[0], process)
        # The client adds headers of its own to those that it gets.
        key = {"authorization": f"Bearer {KEY}"}
        for way in WAYS:
            client, inputs = way.client(encoder), [way.tensor("TEXT", ["x"])]
            assert client.is_server_live() and client.is_server_ready()
            for without in (lambda: client.infer(MODEL, inputs), lambda: client.get_model_metadata(MODEL)):  # noqa: B023
                with pytest.raises(InferenceServerException) as error:
                    without()
                assert error.value.status() in ("401", "StatusCode.UNAUTHENTICATED")
                assert "Bearer" in error.value.message()
            assert client.is_model_ready(MODEL, headers=dict(key))
            assert client.infer(MODEL, inputs, headers=dict(key)).as_numpy("TOKENS").shape == (1,)
    finally:
        stop(process)
