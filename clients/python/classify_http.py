"""Predicts the genres of movies over HTTP, with only the standard library of Python.

    python classify_http.py --title 'Reef' --overview 'A documentary about the death of a coral reef.'
    python classify_http.py --predict-genre --title 'Reef' --overview '…'     # POST /predict_genre/

The API key comes from the variable MOVIECLASSIFIER_API_KEY, because every user of a machine can read arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

ATTEMPTS = 4
LONGEST_WAIT_SECONDS = 10.0


class ServiceError(Exception):
    """A failed request. The message says why; `problem` is the service's problem+json (RFC 9457), or empty."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.problem = status, problem
        wrong = "; ".join(f"{part['field']}: {part['description']}" for part in problem.get("errors", []))
        reason = problem.get("reason", f"HTTP {status}")
        super().__init__(f"{reason}: {wrong or problem.get('detail', 'no reason given')}")


@dataclass(frozen=True)
class Classifier:
    """classifier-svc at `url`. `timeout` is in seconds. Methods raise ServiceError, or OSError if nothing answers."""

    url: str = "http://127.0.0.1:8081"
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 10.0
    tls: ssl.SSLContext | None = None

    def classify(self, title: str, overview: str, scores: bool = False) -> dict[str, Any]:
        """Returns {"genres": [{"label", "probability", "threshold"}, …], "scores", "model_version", "truncated"}."""
        return self._post("/v1/movies:classify", {"title": title, "overview": overview, "include_scores": scores})

    def predict_genre(self, titles: list[str], overviews: list[str]) -> list[dict[str, str]]:
        """Returns [{"title", "overview", "genre": "Thriller, Horror"}, …], one for each title."""
        return self._post("/predict_genre/", {"title": titles, "overview": overviews})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"content-type": "application/json"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(self.url.rstrip("/") + path, json.dumps(body).encode(), headers)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout, context=self.tls) as response:
                    return json.load(response)
            except urllib.error.HTTPError as failure:
                with failure:
                    # Both are temporary, and classifying has no side effects, so a retry is safe.
                    wait = retry_after(failure) if failure.code in (429, 503) else None
                    if wait is None or attempt == ATTEMPTS:
                        raise ServiceError(failure.code, problem_of(failure)) from failure
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def retry_after(failure: urllib.error.HTTPError) -> float:
    """Returns the seconds to wait: one second if the header is missing or holds a date."""
    header = failure.headers.get("retry-after", "")
    return min(float(header) if header.isdecimal() else 1.0, LONGEST_WAIT_SECONDS)


def problem_of(failure: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        problem = json.load(failure)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--title", default="", help="the movie's title")
    parser.add_argument("--overview", required=True, help="what happens in the movie")
    parser.add_argument("--predict-genre", action="store_true", help="call /predict_genre/ and print its response")
    parser.add_argument("--all", action="store_true", help="show all genres, not only the predicted ones")
    parser.add_argument("--url", default=Classifier.url, help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="for each attempt; default: 10")
    parser.add_argument("--ca", metavar="PEM", help="authority to trust for https")
    arguments = parser.parse_args()
    try:
        tls = ssl.create_default_context(cafile=arguments.ca) if arguments.url.startswith("https:") else None
        key = os.environ.get("MOVIECLASSIFIER_API_KEY")
        classifier = Classifier(arguments.url, key, arguments.timeout, tls)
        if arguments.predict_genre:
            print(json.dumps(classifier.predict_genre([arguments.title], [arguments.overview]), ensure_ascii=False))
            return 0
        response = classifier.classify(arguments.title, arguments.overview, arguments.all)
    except (ServiceError, OSError, HTTPException, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for genre in response["scores"] if arguments.all else response["genres"]:
        mark = "*" if genre["probability"] > genre["threshold"] else " "
        print(f"{mark} {genre['label']:<16} {genre['probability']:6.1%}  (threshold {genre['threshold']:.1%})")
    if not response["genres"]:
        print("no genre is above its threshold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
