"""Files of movies for the command: CSV, TSV and JSON Lines, read row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from movieclassifier.results import Movie

FORMATS = ("csv", "tsv", "jsonl")


@dataclass(frozen=True, slots=True)
class Row:
    """One movie of a file."""

    id: str | None
    movie: Movie


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns or keys. They match in any case."""

    id: str = "id"
    title: str = "title"
    overview: str = "overview"


def format_of(name: str) -> str:
    """Returns the format that a file's name tells: JSON Lines unless it ends with .csv or .tsv."""
    ending = name.lower().rpartition(".")[2]
    return ending if ending in ("csv", "tsv") else "jsonl"


def rows(lines: Iterable[str], form: str, columns: Columns) -> Iterator[Row]:
    """Yields the movies of a file.

    Args:
        lines: the lines of the file; of CSV opened with `newline=""`.
        form: one of `FORMATS`.
        columns: the names of the columns. Titles and ids may be missing.

    Raises:
        ValueError: the file does not have this format. The message names the row, counted from 1 without the header.
    """
    return _objects(lines, columns) if form == "jsonl" else _fields(lines, "\t" if form == "tsv" else ",", columns)


def _fields(lines: Iterable[str], delimiter: str, columns: Columns) -> Iterator[Row]:
    # The default, 128 KiB, is less than an overview may have. The service has a limit of its own.
    csv.field_size_limit(1 << 30)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if columns.overview.lower() not in header:
            raise ValueError(f"expected a header with the column {columns.overview!r}, found {header}")
        for number, fields in enumerate((fields for fields in reader if fields), 1):
            if len(fields) != len(header):
                raise ValueError(f"row {number}: expected {len(header)} fields, found {len(fields)}")
            yield _row(dict(zip(header, fields, strict=True)), columns, number)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _objects(lines: Iterable[str], columns: Columns) -> Iterator[Row]:
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        try:
            found = json.loads(line)
        except ValueError as error:
            raise ValueError(f"row {number}: expected a JSON object, found {line.strip()[:80]!r}: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"row {number}: expected a JSON object, found {line.strip()[:80]!r}")
        yield _row({key.lower(): value for key, value in found.items()}, columns, number)


def _row(found: Mapping[str, object], columns: Columns, number: int) -> Row:
    def text(column: str) -> str:
        value = found.get(column.lower())
        if value is not None and not isinstance(value, str):
            raise ValueError(f"row {number}: expected a string in {column!r}, found {value!r}")
        return value or ""

    name = found.get(columns.id.lower())
    return Row(None if name is None else str(name), Movie(text(columns.overview), text(columns.title)))
