"""Every form of a path that clients write reaches its route."""

from __future__ import annotations

import http.client
import json

import pytest
from conftest import Services

MOVIE = {"title": "Reef", "overview": "A documentary about a coral reef."}
POSTS = {
    "/v1/movies:classify": MOVIE,
    "/v1/movies:batchClassify": {"movies": [MOVIE]},
    "/predict_genre": {"title": ["Reef"], "overview": [MOVIE["overview"]]},
}
GETS = ("/", "/app.js", "/style.css", "/favicon.svg", "/v1/model", "/openapi.json", "/livez", "/readyz")


def call(services: Services, path: str, body: object = None) -> tuple[int, bytes]:
    # http.client sends the path as it is written.
    connection = http.client.HTTPConnection(services.rest.removeprefix("http://"), timeout=60)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", POSTS)
def test_a_colon_may_be_encoded_and_a_slash_may_follow(services: Services, path: str) -> None:
    plain = call(services, path, POSTS[path])
    assert plain[0] == 200
    forms = {path + "/", path.replace(":", "%3A"), path.replace(":", "%3a") + "/", path + "/?unused=%3A"}
    for form in forms:
        assert call(services, form, POSTS[path]) == plain, form


@pytest.mark.parametrize("path", GETS)
def test_a_slash_may_follow(services: Services, path: str) -> None:
    plain = call(services, path)
    assert plain[0] == 200
    assert call(services, path + "/") == plain


def test_metrics_count_every_form_under_the_one_route(services: Services) -> None:
    call(services, "/v1/model/")
    status, text = call(services, "/metrics/")
    assert status == 200
    routes = {line.split('route="')[1].split('"')[0] for line in text.decode().splitlines() if 'route="' in line}
    assert "/v1/model" in routes and "/v1/model/" not in routes


@pytest.mark.parametrize("path", ["/v1%2Fmodel", "/v1/model%3F", "/v1//model", "/livez%00", "/v1/movies%253Aclassify"])
def test_another_path_is_not_found(services: Services, path: str) -> None:
    status, body = call(services, path)
    assert (status, json.loads(body)["reason"]) == (404, "NOT_FOUND")
