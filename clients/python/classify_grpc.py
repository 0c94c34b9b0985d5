"""Predicts the genres of movies over gRPC: an example client, and a module to copy from.

    python classify_grpc.py --title 'Reef' --overview 'A documentary about the death of a coral reef.'
    python classify_grpc.py --movies movies.jsonl              # JSON Lines: {"title": …, "overview": …}; - for stdin

The API key comes from the variable MOVIECLASSIFIER_API_KEY, because every user of a machine can read arguments.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc

try:
    from movieclassifier.classifier.v1 import classifier_service_pb2 as wire
    from movieclassifier.classifier.v1 import classifier_service_pb2_grpc as service
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}: generate the stubs first, as README.md in the same folder describes")

# https://github.com/grpc/grpc/blob/master/doc/service_config.md. Classifying has no side effects, so a retry is safe.
# The throttle keeps retries from making an overload worse.
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "movieclassifier.classifier.v1.ClassifierService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}


class Classifier:
    """A connection to classifier-svc. `deadline` is in seconds, over all attempts. Methods raise grpc.RpcError."""

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None = None,
        api_key: str | None = None,
        deadline: float = 10.0,
    ) -> None:
        options = [("grpc.service_config", json.dumps(RETRIES))]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._stub = service.ClassifierServiceStub(self._channel)
        metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._call = {"timeout": deadline, "metadata": metadata}

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def classify(self, movie: wire.Movie, scores: bool = False, explain: bool = False) -> wire.ClassifyResponse:
        request = wire.ClassifyRequest(title=movie.title, overview=movie.overview, include_scores=scores, explain=explain)
        return self._stub.Classify(request, **self._call)

    def classify_all(self, movies: Iterable[wire.Movie], scores: bool = False) -> Iterator[wire.ClassifyResponse]:
        """Yields one response for each movie, in order. Sends batches of the size that the service accepts."""
        size = self._stub.GetModel(wire.GetModelRequest(), **self._call).max_batch_size
        movies = iter(movies)
        while batch := list(itertools.islice(movies, size)):
            request = wire.BatchClassifyRequest(movies=batch, include_scores=scores)
            yield from self._stub.BatchClassify(request, **self._call).results


def movies_of(lines: Iterable[str]) -> Iterator[wire.Movie]:
    """Parses JSON Lines. Raises ValueError with the number of an invalid line."""
    for number, line in enumerate(lines, 1):
        try:
            movie = json.loads(line)
            yield wire.Movie(title=movie.get("title", ""), overview=movie["overview"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            expected = '{"title": …, "overview": …}'
            raise ValueError(f"line {number}: expected {expected}, found {line.strip()[:80]!r}") from error


def credentials_of(arguments: argparse.Namespace) -> grpc.ChannelCredentials | None:
    if not (arguments.tls or arguments.ca or arguments.certificate):
        return None
    ca, key, certificate = (
        path.read_bytes() if path else None for path in (arguments.ca, arguments.key, arguments.certificate)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


def show(response: wire.ClassifyResponse, scores: bool) -> None:
    for genre in response.scores if scores else response.genres:
        mark = "*" if genre.probability > genre.threshold else " "
        print(f"{mark} {genre.label:<16} {genre.probability:6.1%}  (threshold {genre.threshold:.1%})")
    if not response.genres:
        print("no genre is above its threshold")
    if response.truncated:
        print("the text is longer than the encoder reads, so its end was cut off", file=sys.stderr)
    for segment in response.explanation.segments:
        added = ", ".join(f"{part.label} {part.contribution:+.1%}" for part in segment.contributions)
        print(f"\n{segment.text}\n    {added}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    movie = parser.add_mutually_exclusive_group(required=True)
    movie.add_argument("--overview", help="what happens in the movie")
    movie.add_argument("--movies", metavar="FILE", help="many movies as JSON Lines; prints JSON Lines")
    parser.add_argument("--title", default="", help="the movie's title")
    parser.add_argument("--all", action="store_true", help="show all genres, not only the predicted ones")
    parser.add_argument("--explain", action="store_true", help="show what each sentence contributes (with --overview)")
    parser.add_argument("--address", default="127.0.0.1:50052", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--deadline", type=float, default=10, metavar="SECONDS", help="for each call; default: 10")
    parser.add_argument("--tls", action="store_true", help="use TLS with the authorities that the system trusts")
    parser.add_argument("--ca", type=Path, metavar="PEM", help="use TLS with this authority")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="certificate of this client, for mutual TLS")
    parser.add_argument("--key", type=Path, metavar="PEM", help="private key of that certificate")
    arguments = parser.parse_args()
    if (arguments.certificate is None) != (arguments.key is None):
        parser.error("--certificate requires --key, and --key requires --certificate")
    if arguments.explain and arguments.movies:
        parser.error("--explain requires --overview")
    return arguments


def main() -> int:
    arguments = parse()
    try:
        credentials, key = credentials_of(arguments), os.environ.get("MOVIECLASSIFIER_API_KEY")
        with Classifier(arguments.address, credentials, key, arguments.deadline) as classifier:
            if arguments.movies is None:
                movie = wire.Movie(title=arguments.title, overview=arguments.overview)
                show(classifier.classify(movie, arguments.all, arguments.explain), arguments.all)
                return 0
            lines = sys.stdin if arguments.movies == "-" else Path(arguments.movies).read_text("utf-8").splitlines()
            show_all(classifier, lines, arguments.all)
    except grpc.RpcError as error:
        print(f"error: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def show_all(classifier: Classifier, lines: Iterable[str], scores: bool) -> None:
    movies = list(movies_of(lines))
    for movie, response in zip(movies, classifier.classify_all(movies, scores), strict=True):
        listed = response.scores if scores else response.genres
        genres = {genre.label: round(genre.probability, 4) for genre in listed}
        print(json.dumps({"title": movie.title, "genres": genres}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
