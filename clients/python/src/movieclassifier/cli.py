"""The command `movieclassifier`: classifies a movie, or a file of movies, by a running service.

The API key comes from the variable MOVIECLASSIFIER_API_KEY, because every user of a machine can read arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import struct
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

from movieclassifier._channel import Tls
from movieclassifier.client import Classifier
from movieclassifier.errors import ServiceError
from movieclassifier.movie_files import FORMATS, Columns, Row, format_of, rows
from movieclassifier.results import Classification, GenreScore

COLUMNS = ("row", "id", "title", "genres", "truncated", "model_version", "error")


def _parser() -> argparse.ArgumentParser:
    summary, _, key = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="movieclassifier", description=summary, epilog=key)
    commands = parser.add_subparsers(dest="command", required=True)
    classify = commands.add_parser("classify", help="classify one movie, or many from a file")
    movie = classify.add_mutually_exclusive_group(required=True)
    movie.add_argument("--overview", help="what happens in the movie")
    movie.add_argument(
        "--input", metavar="FILE", help="file of movies: CSV or TSV with a header, or JSON Lines; - for stdin"
    )
    classify.add_argument("--title", default="", help="the movie's title, with --overview")
    classify.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    classify.add_argument("--all", action="store_true", help="show all genres; * marks the predicted ones")
    classify.add_argument("--explain", action="store_true", help="show what each sentence contributes, with --overview")
    classify.add_argument("--min-probability", type=float, metavar="P", help="replaces the thresholds of all genres")
    classify.add_argument("--top-k", type=int, metavar="K", help="only the K most probable of the predicted genres")
    classify.add_argument("--input-format", choices=FORMATS, help="default: from the file's name, otherwise jsonl")
    classify.add_argument("--output", choices=("jsonl", "csv"), default="jsonl", help="default: %(default)s")
    for column in ("id", "title", "overview"):
        classify.add_argument(f"--{column}-column", default=column, metavar="NAME", help="default: %(default)s")
    model = commands.add_parser("model", help="describe the model that the service runs, as JSON")
    for command in (classify, model):
        command.add_argument("--address", default="127.0.0.1:50052", metavar="HOST:PORT", help="default: %(default)s")
        command.add_argument("--deadline", type=float, default=10.0, metavar="SECONDS", help="default: %(default)s")
        command.add_argument("--tls", action="store_true", help="use TLS with public authorities")
        command.add_argument("--ca", metavar="PEM", help="use TLS with this authority")
        command.add_argument("--certificate", metavar="PEM", help="certificate of this client, for mutual TLS")
        command.add_argument("--key", metavar="PEM", help="private key of that certificate")
        command.add_argument("--server-name", metavar="NAME", help="name in the server's certificate")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command. Returns 0 on success, 1 if a call or a movie failed, 2 for wrong arguments."""
    parser = _parser()
    found = parser.parse_args(arguments)
    if found.command == "classify" and found.explain and found.overview is None:
        parser.error("--explain requires --overview")
    try:
        files = (found.ca, found.certificate, found.key, found.server_name)
        tls = Tls(*files) if any(files) else found.tls
        key = os.environ.get("MOVIECLASSIFIER_API_KEY")
        with Classifier(found.address, tls=tls, api_key=key, deadline=found.deadline) as classifier:
            return _run(classifier, found)
    except BrokenPipeError:
        # The reader of the output, such as `head`, has seen enough. Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except (ServiceError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(classifier: Classifier, found: argparse.Namespace) -> int:
    if found.command == "model":
        model = classifier.model()
        described: dict[str, Any] = {name: getattr(model, name) for name in model.__slots__}
        described["thresholds"] = [_shortest(threshold) for threshold in model.thresholds]
        print(json.dumps(described, ensure_ascii=False, indent=2))
        return 0
    if found.input is not None:
        return _classify_file(classifier, found)
    result = classifier.classify(
        found.overview,
        found.title,
        include_scores=found.all,
        explain=found.explain,
        min_probability=found.min_probability,
        top_k=found.top_k,
    )
    if found.json:
        print(json.dumps({"title": found.title, **_as_json(result)}, ensure_ascii=False, indent=2))
    else:
        _print_table(result, found.all)
    return 0


def _classify_file(classifier: Classifier, found: argparse.Namespace) -> int:
    columns = Columns(found.id_column, found.title_column, found.overview_column)
    # Results come in the order of the input, so the oldest row belongs to the next result.
    pending: deque[Row] = deque()

    def movies(lines: TextIO) -> Iterator[Any]:
        for row in rows(lines, found.input_format or format_of(found.input), columns):
            pending.append(row)
            yield row.movie

    failed = 0
    write = _csv_writer() if found.output == "csv" else _write_json
    with _opened(found.input) as lines:
        results = classifier.classify_many(
            movies(lines),
            include_scores=found.all,
            min_probability=found.min_probability,
            top_k=found.top_k,
            errors="return",
        )
        for number, result in enumerate(results, 1):
            row = pending.popleft()
            record: dict[str, Any] = {"row": number, "id": row.id, "title": row.movie.title}
            if isinstance(result, ServiceError):
                failed += 1
                record["error"] = f"{result.reason}: {result.message}"
                print(f"row {number}: {record['error']}", file=sys.stderr)
            else:
                record |= _as_json(result)
            write({name: value for name, value in record.items() if value is not None})
            # Whoever reads the pipe sees each record at once.
            sys.stdout.flush()
    return 1 if failed else 0


def _opened(name: str) -> contextlib.AbstractContextManager[TextIO]:
    if name == "-":
        return contextlib.nullcontext(open(0, encoding="utf-8-sig", newline="", closefd=False))
    return open(name, encoding="utf-8-sig", newline="")


def _write_json(record: dict[str, Any]) -> None:
    print(json.dumps(record, ensure_ascii=False))


def _csv_writer() -> Any:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)

    def write(record: dict[str, Any]) -> None:
        genres = ", ".join(genre["label"] for genre in record.get("genres", []))
        record |= {"genres": genres, "truncated": str(record.get("truncated", "")).lower()}
        writer.writerow([record.get(name, "") for name in COLUMNS])

    return write


def _shortest(number: float) -> float:
    """Returns the shortest decimal of the same float32, such as 0.3 of 0.30000001192092896."""
    for digits in range(1, 9):
        short = float(f"{number:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", number):
            return short
    return number


def _as_json(result: Classification) -> dict[str, Any]:
    """Returns the fields of the REST response."""

    def scores(found: tuple[GenreScore, ...]) -> list[dict[str, Any]]:
        return [
            {"label": score.label, "probability": _shortest(score.probability), "threshold": _shortest(score.threshold)}
            for score in found
        ]

    described: dict[str, Any] = {"genres": scores(result.genres)}
    if result.scores:
        described["scores"] = scores(result.scores)
    described |= {"model_version": result.model_version, "truncated": result.truncated}
    if result.explanation:
        described["explanation"] = [
            {
                "source": segment.source,
                "text": segment.text,
                "contributions": {part.label: _shortest(part.contribution) for part in segment.contributions},
            }
            for segment in result.explanation
        ]
    return described


def _print_table(result: Classification, show_all: bool) -> None:
    for genre in result.scores if show_all else result.genres:
        mark = "*" if genre.label in result.labels else " "
        print(f"{mark} {genre.label:<16} {genre.probability:6.1%}  (threshold {genre.threshold:.1%})")
    if not result.genres:
        print("no genre is above its threshold")
    if result.truncated:
        print("note: the text is longer than the encoder reads; its end was cut off", file=sys.stderr)
    for segment in result.explanation:
        added = ", ".join(f"{part.label} {part.contribution:+.1%}" for part in segment.contributions)
        print(f"\n{segment.text}\n    {added}")


if __name__ == "__main__":
    sys.exit(main())
