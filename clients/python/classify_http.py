"""Tells the genres of movies over plain HTTP, with Python's standard library alone.

    python classify_http.py --title 'Reef' --overview 'A documentary about the death of a coral reef.'
    python classify_http.py --predict-genre --title 'Reef' --overview '…'     # POST /predict_genre/

An API key is read from the variable MOVIECLASSIFIER_API_KEY, as arguments can be seen by every user of a machine.
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
    """A refused request: the message says why, `problem` is the service's problem+json (RFC 9457) or empty."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.problem = status, problem
        wrong = "; ".join(f"{part['field']}: {part['description']}" for part in problem.get("errors", []))
        reason = problem.get("reason", f"HTTP {status}")
        super().__init__(f"{reason}: {wrong or problem.get('detail', 'no reason given')}")


@dataclass(frozen=True)
class Classifier:
    """classifier-svc at `url`. Methods raise ServiceError, and OSError where none answers; `timeout` is in seconds."""

    url: str = "http://127.0.0.1:8081"
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 10.0
    tls: ssl.SSLContext | None = None

    def classify(self, title: str, overview: str, scores: bool = False) -> dict[str, Any]:
        """{"genres": [{"label", "probability", "threshold"}, …], "scores", "model_version", "truncated"}."""
        return self._post("/v1/movies:classify", {"title": title, "overview": overview, "include_scores": scores})

    def predict_genre(self, titles: list[str], overviews: list[str]) -> list[dict[str, str]]:
        """[{"title", "overview", "genre": "Thriller, Horror"}, …], one for each title."""
        return self._post("/predict_genre/", {"title": titles, "overview": overviews})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"content-type": "application/json"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(self.url.rstrip("/") + path, json.dumps(body).encode(), headers)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout, context=self.tls) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as refusal:
                with refusal:
                    # Both pass, and a classification changes nothing, so asking again is safe.
                    wait = retry_after(refusal) if refusal.code in (429, 503) else None
                    if wait is None or attempt == ATTEMPTS:
                        raise ServiceError(refusal.code, problem_of(refusal)) from refusal
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def retry_after(refusal: urllib.error.HTTPError) -> float:
    """Seconds; one where the service names none, or a date."""
    header = refusal.headers.get("retry-after", "")
    return min(float(header) if header.isdecimal() else 1.0, LONGEST_WAIT_SECONDS)


def problem_of(refusal: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        problem = json.load(refusal)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--title", default="", help="the movie's title")
    parser.add_argument("--overview", required=True, help="what happens in the movie")
    parser.add_argument("--predict-genre", action="store_true", help="ask /predict_genre/, and print its answer")
    parser.add_argument("--all", action="store_true", help="all genres, not only the predicted ones")
    parser.add_argument("--url", default=Classifier.url, help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="for each attempt; default: 10")
    parser.add_argument("--ca", metavar="PEM", help="trust this authority for https")
    arguments = parser.parse_args()
    try:
        tls = ssl.create_default_context(cafile=arguments.ca) if arguments.url.startswith("https:") else None
        key = os.environ.get("MOVIECLASSIFIER_API_KEY")
        classifier = Classifier(arguments.url, key, arguments.timeout, tls)
        if arguments.predict_genre:
            print(json.dumps(classifier.predict_genre([arguments.title], [arguments.overview]), ensure_ascii=False))
            return 0
        answer = classifier.classify(arguments.title, arguments.overview, arguments.all)
    except (ServiceError, OSError, HTTPException, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for genre in answer["scores"] if arguments.all else answer["genres"]:
        mark = "*" if genre["probability"] > genre["threshold"] else " "
        print(f"{mark} {genre['label']:<16} {genre['probability']:6.1%}  (threshold {genre['threshold']:.1%})")
    if not answer["genres"]:
        print("no genre is above its threshold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
