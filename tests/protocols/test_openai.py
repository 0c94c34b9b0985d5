"""The encoder through the packages `openai` and `langchain-openai`: the same vectors as `Encode`, and errors that they know."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from certificates import Certificate, self_signed
from conftest import channel_to, free_port, start, stop, wait_until_serving
from langchain_openai import OpenAIEmbeddings
from reflection import ReflectionClient

MODEL = "minilm-512"
SERVICE = "movieclassifier.encoder.v1.EncoderService"
TEXTS = ["A pilot.", "Deux sœurs héritent d'un vignoble 🎬", "rain " * 400, 'a "quoted"\n\ttext\\', "x"]
KEY, SLOW_KEY = "one-key-for-the-tests", "another-key"


@dataclass(frozen=True)
class Encoder:
    """A running encoder."""

    grpc: str
    url: str
    """The base URL for clients of OpenAI."""


def bits(vector: list[float] | str) -> bytes:
    """Returns the bytes of a vector as little-endian 32-bit floats, which Base64 has already."""
    if isinstance(vector, str):
        return base64.b64decode(vector, validate=True)
    return struct.pack(f"<{len(vector)}f", *vector)


@pytest.fixture(scope="module")
def encoder() -> Iterator[Encoder]:
    address, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    process = start("encoder-svc", "serve", "--listen", address, "--http-listen", http)
    try:
        wait_until_serving(address, process)
        yield Encoder(address, f"http://{http}/v1")
    finally:
        stop(process)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Encoder]:
    """An encoder with TLS and two keys, one of which may send two texts at once."""
    address, http = f"localhost:{free_port()}", f"localhost:{free_port()}"
    listen = address.replace("localhost", "127.0.0.1"), http.replace("localhost", "127.0.0.1")
    keys = [(KEY, ""), (SLOW_KEY, "texts_per_second = 1\ntexts_burst = 2\n")]
    sections = [
        f'[[auth.keys]]\nname = "{index}"\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n{limits}'
        for index, (key, limits) in enumerate(keys)
    ]
    settings = tmp_path_factory.mktemp("settings") / "encoder.toml"
    settings.write_text(certificate.settings() + "".join(sections))
    process = start("encoder-svc", "serve", "--config", str(settings), "--listen", listen[0], "--http-listen", listen[1])
    try:
        wait_until_serving(address, process, Path(certificate.certificate).read_bytes())
        yield Encoder(address, f"https://{http}/v1")
    finally:
        stop(process)


@pytest.fixture(scope="module")
def expected(encoder: Encoder) -> list[bytes]:
    """The vectors of `Encode`, as bytes."""
    with channel_to(encoder.grpc, None) as channel:
        response = ReflectionClient(channel).call(SERVICE, "Encode", texts=TEXTS)
    return [bits(embedding.values) for embedding in response.embeddings]


def client(encoder: Encoder, key: str = "unused", **more: object) -> openai.OpenAI:
    return openai.OpenAI(base_url=encoder.url, api_key=key, max_retries=0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_vectors_are_those_of_encode(encoder: Encoder, expected: list[bytes], encoding: str | None) -> None:
    # Without a format, the package asks for base64 and decodes it. Base64 that it was told to ask for, it returns.
    chosen = {} if encoding is None else {"encoding_format": encoding}
    response = client(encoder).embeddings.create(model=MODEL, input=TEXTS, **chosen)  # type: ignore[call-overload]
    assert [bits(element.embedding) for element in response.data] == expected
    assert [element.index for element in response.data] == list(range(len(TEXTS)))
    assert (response.object, response.model, response.data[0].object) == ("list", MODEL, "embedding")
    assert response.usage.total_tokens == response.usage.prompt_tokens > 256
    assert [getattr(element, "truncated", False) for element in response.data] == [text.startswith("rain") for text in TEXTS]


def test_one_text_and_the_extensions(encoder: Encoder, expected: list[bytes]) -> None:
    create = client(encoder).embeddings.create
    response = create(model=MODEL, input=TEXTS[0], dimensions=512, user="someone", extra_body={"priority": "bulk"})
    assert [bits(element.embedding) for element in response.data] == expected[:1]


def test_asynchronous_calls_get_their_own_vectors(encoder: Encoder, expected: list[bytes]) -> None:
    async def run() -> list[bytes]:
        async with openai.AsyncOpenAI(base_url=encoder.url, api_key="unused") as asynchronous:
            calls = [asynchronous.embeddings.create(model=MODEL, input=text) for text in TEXTS * 4]
            return [bits(response.data[0].embedding) for response in await asyncio.gather(*calls)]

    assert asyncio.run(run()) == expected * 4


def test_the_largest_batch(encoder: Encoder) -> None:
    texts = [f"movie {index}" for index in range(256)]
    with channel_to(encoder.grpc, None) as channel:
        reply = ReflectionClient(channel).call(SERVICE, "Encode", texts=texts)
    response = client(encoder).embeddings.create(model=MODEL, input=texts)
    assert [bits(element.embedding) for element in response.data] == [bits(one.values) for one in reply.embeddings]
    assert response.usage.total_tokens == sum(one.token_count for one in reply.embeddings)


def test_langchain_embeds(encoder: Encoder, expected: list[bytes]) -> None:
    embeddings = OpenAIEmbeddings(
        base_url=encoder.url,
        api_key="unused",  # type: ignore[arg-type]
        model=MODEL,
        check_embedding_ctx_length=False,
    )
    assert [bits(vector) for vector in embeddings.embed_documents(TEXTS)] == expected
    assert bits(embeddings.embed_query(TEXTS[1])) == expected[1]
    assert bits(asyncio.run(embeddings.aembed_query(TEXTS[0]))) == expected[0]


def test_describes_the_model(encoder: Encoder) -> None:
    models = client(encoder).models
    assert [model.id for model in models.list()] == [MODEL]
    model = models.retrieve(MODEL)
    assert (model.object, getattr(model, "dimension", None)) == ("model", 512)


@pytest.mark.parametrize(
    ("request_", "param", "code"),
    [
        ({"input": []}, "input", "empty_batch"),
        ({"input": ["a"] * 300}, "input", "batch_too_large"),
        ({"input": ""}, "input[0]", "empty_text"),
        ({"input": ["a", " \n"]}, "input[1]", "empty_text"),
        ({"input": "a" * 40_000}, "input[0]", "text_too_long"),
        ({"input": [1, 2, 3]}, "input[0]", "invalid_json"),
        ({"input": [[1, 2], [3]]}, "input[0]", "invalid_json"),
        ({"input": "a", "dimensions": 256}, "dimensions", "unsupported_dimensions"),
        ({"input": "a", "dimensions": 2**31}, "dimensions", "unsupported_dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_json"),
        ({"input": "a", "extra_body": {"input": None}}, "input", "invalid_json"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_requests_name_the_field(encoder: Encoder, request_: dict, param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client(encoder).embeddings.create(model=MODEL, **request_)
    error = caught.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error"), error
    assert error.body["message"]  # type: ignore[index]


def test_another_model_is_not_found(encoder: Encoder) -> None:
    with pytest.raises(openai.NotFoundError, match=f'expected \\\\?"{MODEL}') as caught:
        client(encoder).embeddings.create(model="text-embedding-3-small", input="a")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client(encoder).models.retrieve("text-embedding-3-small")


def test_another_content_type_is_rejected(encoder: Encoder) -> None:
    body = json.dumps({"model": MODEL, "input": "a"}).encode()
    request = urllib.request.Request(encoder.url + "/embeddings", body, {"content-type": "text/plain"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 415
    assert json.load(caught.value)["error"]["code"] == "unsupported_media_type"


def test_a_key_over_tls(guarded: Encoder, certificate: Certificate, expected: list[bytes]) -> None:
    def over_tls(key: str) -> openai.OpenAI:
        return client(guarded, key, http_client=openai.DefaultHttpxClient(verify=certificate.client()))

    response = over_tls(KEY).embeddings.create(model=MODEL, input=TEXTS)
    assert [bits(element.embedding) for element in response.data] == expected
    with pytest.raises(openai.AuthenticationError) as unknown:
        over_tls("unknown").embeddings.create(model=MODEL, input="a")
    assert unknown.value.code == "invalid_api_key"
    over_tls(SLOW_KEY).embeddings.create(model=MODEL, input=["a", "b"])
    with pytest.raises(openai.RateLimitError) as limited:
        over_tls(SLOW_KEY).embeddings.create(model=MODEL, input=["a", "b"])
    assert limited.value.code == "rate_limit_exceeded"
    assert int(limited.value.response.headers["retry-after"]) >= 1
    with pytest.raises(openai.APIConnectionError):
        client(guarded, KEY).embeddings.create(model=MODEL, input="a")
