"""Bodies as other programs write them: byte order marks, other encodings, nulls."""

from __future__ import annotations

import codecs
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from conftest import Services

TEXT = '{"title": "Café", "overview": "A gunslinger defends a frontier town."}'
BATCH = '{"movies": [' + TEXT + "]}"
REFERENCE = '{"title": ["Café"], "overview": ["A gunslinger defends a frontier town."]}'
BODIES = [("/v1/movies:classify", TEXT), ("/v1/movies:batchClassify", BATCH), ("/predict_genre/", REFERENCE)]


def post(services: Services, path: str, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(services.rest + path, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(("path", "text"), BODIES)
def test_reads_a_body_with_a_byte_order_mark(services: Services, path: str, text: str) -> None:
    plain = post(services, path, text.encode())
    assert plain[0] == 200
    assert post(services, path, codecs.BOM_UTF8 + text.encode()) == plain


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("latin-1", "byte 0xe9"),
        ("cp1252", "byte 0xe9"),
    ],
)
@pytest.mark.parametrize(("path", "text"), BODIES)
def test_names_the_encoding_of_a_body_that_is_not_utf_8(
    services: Services, path: str, text: str, encoding: str, found: str
) -> None:
    status, problem = post(services, path, text.encode(encoding))
    assert (status, problem["reason"]) == (400, "INVALID_JSON")
    assert "the body must be UTF-8" in problem["detail"] and found in problem["detail"], problem


def test_null_is_absent_for_every_optional_field(services: Services) -> None:
    with urllib.request.urlopen(services.rest + "/openapi.json", timeout=60) as response:
        schemas = json.load(response)["components"]["schemas"]
    bodies = {
        "ClassifyRequest": ("/v1/movies:classify", lambda nulls: {"overview": "A storm.", **nulls}),
        "BatchClassifyRequest": (
            "/v1/movies:batchClassify",
            lambda nulls: {"movies": [{"overview": "A storm."}], **nulls},
        ),
        "Movie": ("/v1/movies:batchClassify", lambda nulls: {"movies": [{"overview": "A storm.", **nulls}]}),
    }
    for name, (path, body) in bodies.items():
        schema = schemas[name]
        optional = set(schema["properties"]) - set(schema["required"])
        assert optional, name
        for field in optional:
            assert "null" in schema["properties"][field]["type"], f"{name}.{field} is not nullable in OpenAPI"
        plain = post(services, path, json.dumps(body({})).encode())
        assert plain[0] == 200
        assert post(services, path, json.dumps(body(dict.fromkeys(optional))).encode()) == plain
        for field in schema["required"]:
            status, problem = post(services, path, json.dumps(body({field: None})).encode())
            assert (status, problem["reason"]) == (400, "INVALID_JSON"), (name, field)
