"""Blank, invalid and unusual texts, in every interface."""

from __future__ import annotations

import json
import math
import unicodedata

import grpc
import pytest
from abused import CLASSIFIER, ENCODER, PROMPT_SECONDS, Pair, pair  # noqa: F401
from error_details import details
from http2 import DATA, END_HEADERS, END_STREAM, HEADERS, Connection, call_headers, fields, frame, message
from reflection import ReflectionClient

INVALID_ARGUMENT = 3
EMOJI = "\U0001f3ac\U0001f468\u200d\U0001f469\u200d\U0001f467"

WELL = {
    "NUL among words": "A storm\0 is coming.",
    "right to left": "סערה מתקרבת אל העיר. \u202eevil\u202c عاصفة تقترب من المدينة",
    "a letter under 1,000 marks": "A storm" + "\u0301\u0489" * 500 + " is coming.",
    "7,000 emoji": "\U0001f3ac" * 7_000,
    "families of emoji": EMOJI * 1_000,
    "decomposed": unicodedata.normalize("NFD", "Ein Mädchen fährt über die Brücke."),
    "no characters": "\ufdd0\uffff\U0010ffff storm",
    "one word of 7,000 letters": "a" * 7_000,
    "nothing but marks": "\u0301" * 100,
    "nothing but joiners": "\u200b\u200d" * 100,
}
WRONG = {
    "empty": ("", "EMPTY_TEXT"),
    "white space": (" \t\r\n\u3000\u2028\u00a0", "EMPTY_TEXT"),
    "NUL alone": ("\0" * 10, "EMPTY_TEXT"),
    "byte order marks": ("\ufeff" * 10, "EMPTY_TEXT"),
    "1 MB of emoji": ("\U0001f3ac" * 250_000, "TEXT_TOO_LONG"),
    "a character too many": ("a" * 7_501, "TEXT_TOO_LONG"),
}


def stream_one(address: str, service: str, method: str, **item: str) -> object:
    """Returns the response to a stream of one item."""
    with grpc.insecure_channel(address) as channel:
        responses = list(ReflectionClient(channel).stream(service, method, [{"id": "1", **item}], PROMPT_SECONDS))
    assert [response.id for response in responses] == ["1"]
    return responses[0]


@pytest.mark.parametrize("text", WELL.values(), ids=WELL)
def test_every_interface_classifies_unusual_texts_alike(pair: Pair, text: str) -> None:  # noqa: F811
    with grpc.insecure_channel(pair.classifier.grpc) as channel:
        called = ReflectionClient(channel).call(CLASSIFIER, "Classify", overview=text, title=text[:500])
    streamed = stream_one(pair.classifier.grpc, CLASSIFIER, "ClassifyStream", overview=text, title=text[:500])
    status, posted = pair.post({"overview": text, "title": text[:500]})
    assert streamed.WhichOneof("result") == "classification" and status == 200
    labels = [genre.label for genre in called.genres]
    assert labels == [genre.label for genre in streamed.classification.genres]
    assert labels == [genre["label"] for genre in posted["genres"]]
    with grpc.insecure_channel(pair.encoder.grpc) as channel:
        values = ReflectionClient(channel).call(ENCODER, "Encode", texts=[text]).embeddings[0].values
    assert len(values) == 512 and all(map(math.isfinite, values))


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_every_interface_rejects_blank_and_too_long_texts(pair: Pair, text: str, reason: str) -> None:  # noqa: F811
    with grpc.insecure_channel(pair.classifier.grpc) as channel, pytest.raises(grpc.RpcError) as failure:
        ReflectionClient(channel).call(CLASSIFIER, "Classify", overview=text)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(failure.value)["ErrorInfo"].reason == reason
    assert details(failure.value)["BadRequest"].field_violations[0].field == "overview"

    streamed = stream_one(pair.classifier.grpc, CLASSIFIER, "ClassifyStream", overview=text)
    assert (streamed.error.code, streamed.error.reason) == (INVALID_ARGUMENT, reason)

    status, problem = pair.post({"overview": text})
    assert (status, problem["reason"]) == (400, reason)
    assert problem["errors"][0]["field"] == "overview"


def test_encoder_names_invalid_texts_by_index(pair: Pair) -> None:  # noqa: F811
    texts = ["A storm.", "\0", "\U0001f3ac" * 250_000]
    with grpc.insecure_channel(pair.encoder.grpc) as channel, pytest.raises(grpc.RpcError) as failure:
        ReflectionClient(channel).call(ENCODER, "Encode", texts=texts)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = details(failure.value)["BadRequest"].field_violations
    assert [violation.field for violation in violations] == ["texts[1]", "texts[2]"]
    streamed = stream_one(pair.encoder.grpc, ENCODER, "EncodeStream", text="\0")
    assert (streamed.error.code, streamed.error.reason) == (INVALID_ARGUMENT, "EMPTY_TEXT")


# Fields of type string: Classify.overview is 2, ClassifyStream.overview is 3, Encode.texts is 1.
STRINGS = {
    f"{CLASSIFIER}/Classify": (0x12, "classifier"),
    f"{CLASSIFIER}/ClassifyStream": (0x1A, "classifier"),
    f"{ENCODER}/Encode": (0x0A, "encoder"),
}
NOT_UTF8 = {"a lone byte": b"A storm \xff", "a surrogate": b"A storm \xed\xa0\x80", "overlong": b"A storm \xc0\x80"}


@pytest.mark.parametrize("method", STRINGS)
@pytest.mark.parametrize("raw", NOT_UTF8.values(), ids=NOT_UTF8)
def test_string_that_is_not_utf_8_is_invalid_argument(pair: Pair, method: str, raw: bytes) -> None:  # noqa: F811
    response = call_with(pair, method, raw)
    assert response == INVALID_ARGUMENT


def call_with(pair: Pair, method: str, raw: bytes) -> int | None:  # noqa: F811
    """Returns the status of a call with the string `raw`."""
    tag, name = STRINGS[method]
    with Connection(getattr(pair, name).grpc) as connection:
        body = message(bytes([tag, len(raw)]) + raw)
        connection.send(frame(HEADERS, fields(call_headers(f"/{method}")), END_HEADERS, 1))
        connection.send(frame(DATA, body, END_STREAM, 1))
        return connection.response(1).status


NOT_JSON_TEXTS = {
    "a high surrogate": rb'"\ud800"',
    "a low surrogate": rb'"A storm \udc00"',
    "in the wrong order": rb'"\udc00\ud800"',
    "not UTF-8": b'"A storm \xff"',
    "a bare NUL": b'"A storm\0"',
    "no escape": rb'"\x00"',
    "half an escape": rb'"\u12"',
}


@pytest.mark.parametrize("text", NOT_JSON_TEXTS.values(), ids=NOT_JSON_TEXTS)
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/movies:classify", b'{"overview": %b}', "overview"),
        ("/v1/movies:batchClassify", b'{"movies": [{"overview": %b}]}', "movies[0].overview"),
        ("/predict_genre/", b'{"title": [""], "overview": [%b]}', "overview[0]"),
    ],
    ids=["one", "batch", "predict_genre"],
)
def test_names_invalid_strings_in_json(pair: Pair, text: bytes, path: str, body: bytes, field: str) -> None:  # noqa: F811
    status, problem = pair.post(body % text, path)
    assert (status, problem["reason"]) == (400, "INVALID_JSON")
    assert [error["field"] for error in problem["errors"]] == [field]


def test_accepts_a_surrogate_pair_and_an_escaped_nul(pair: Pair) -> None:  # noqa: F811
    status, _ = pair.post(json.dumps({"overview": "A storm \0 \U0001f3ac"}))
    assert status == 200
