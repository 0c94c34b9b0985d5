"""Tables of pandas, polars and pyarrow. Each library is used only if its table is passed, and never imported first."""

from __future__ import annotations

import itertools
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from movieclassifier.errors import ServiceError
from movieclassifier.results import Classification, Movie

Frame = TypeVar("Frame")
COLUMNS = ("labels", "probabilities", "model_version", "truncated", "error")


@dataclass(slots=True)
class _Results:
    """The new columns, each with one value for each row."""

    labels: list[list[str] | None] = field(default_factory=list)
    probabilities: list[list[float] | None] = field(default_factory=list)
    model_version: list[str | None] = field(default_factory=list)
    truncated: list[bool | None] = field(default_factory=list)
    error: list[str | None] = field(default_factory=list)

    @classmethod
    def of(cls, results: Iterable[Classification | ServiceError]) -> _Results:
        columns = cls()
        for result in results:
            good = None if isinstance(result, ServiceError) else result
            columns.labels.append(None if good is None else list(good.labels))
            columns.probabilities.append(None if good is None else list(good.probabilities))
            columns.model_version.append(None if good is None else good.model_version)
            columns.truncated.append(None if good is None else good.truncated)
            columns.error.append(f"{result.reason}: {result.message}" if isinstance(result, ServiceError) else None)
        return columns


def check_names(names: list[str], title: str | None, overview: str, prefix: str, *, folded: bool = False) -> None:
    """Checks the names of a table's columns. Raises ValueError if one is missing or in the way of a new one.

    Args:
        names: all of them.
        title: the column of titles.
        overview: the column of overviews.
        prefix: put before the names of the new columns.
        folded: whether names that differ in case only are equal.
    """
    missing = [name for name in (title, overview) if name is not None and name not in names]
    if missing:
        raise ValueError(f"expected the columns {missing}, found {names}")
    new = [prefix + name for name in COLUMNS]
    if folded:
        taken = [name for name in names if name.lower() in {name.lower() for name in new}]
    else:
        taken = [name for name in new if name in names]
    if taken:
        raise ValueError(f"the table has the columns {taken} already: pass a prefix for the new ones")


class Table(ABC, Generic[Frame]):
    """A table of movies."""

    def __init__(self, frame: Frame, title: str | None, overview: str, prefix: str) -> None:
        self.frame, self.title, self.overview, self.prefix = frame, title, overview, prefix
        check_names([str(name) for name in self.names()], title, overview, prefix)

    def movies(self) -> Iterator[Movie]:
        """Yields the rows. Raises TypeError if a value is neither a string nor null."""
        overviews = self.texts(self.overview)
        titles = self.texts(self.title) if self.title is not None else itertools.repeat("")
        for overview, title in zip(overviews, titles, strict=False):
            yield Movie(overview, title)

    def texts(self, column: str) -> Iterator[str]:
        """Yields the strings of a column, and an empty one for each null."""
        for row, value in enumerate(self.values(column)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"expected strings in {column!r}, found {type(value).__name__} in row {row}")
            yield value or ""

    def with_results(self, results: Iterable[Classification | ServiceError]) -> Frame:
        """Returns the table with one more column for each of `COLUMNS`."""
        return self.extended(_Results.of(results))

    @abstractmethod
    def names(self) -> Sequence[object]:
        """Returns the names of the columns."""

    @abstractmethod
    def values(self, column: str) -> Iterable[Any]:
        """Returns the values of a column: strings, or None for null."""

    @abstractmethod
    def extended(self, results: _Results) -> Frame:
        """Returns the table with the new columns."""


class _Pandas(Table[Any]):
    def names(self) -> Sequence[object]:
        return list(self.frame.columns)

    def values(self, column: str) -> Iterable[Any]:
        values = self.frame[column].astype("object")
        # Nulls of pandas are None, NaN, NaT or NA.
        return list(values.where(values.notna(), None))

    def extended(self, results: _Results) -> Any:
        import pandas as pd

        index = self.frame.index
        new = {
            "labels": pd.Series(results.labels, index=index, dtype="object"),
            "probabilities": pd.Series(results.probabilities, index=index, dtype="object"),
            "model_version": pd.Series(results.model_version, index=index, dtype="object"),
            "truncated": pd.Series(results.truncated, index=index, dtype="boolean"),
            "error": pd.Series(results.error, index=index, dtype="object"),
        }
        return self.frame.assign(**{self.prefix + name: column for name, column in new.items()})


class _Polars(Table[Any]):
    def names(self) -> Sequence[object]:
        return list(self.frame.columns)

    def values(self, column: str) -> Iterable[Any]:
        column_of_texts: Iterable[Any] = self.frame.get_column(column)
        return column_of_texts

    def extended(self, results: _Results) -> Any:
        import polars as pl

        types: dict[str, Any] = {
            "labels": pl.List(pl.String),
            "probabilities": pl.List(pl.Float32),
            "model_version": pl.String,
            "truncated": pl.Boolean,
            "error": pl.String,
        }
        return self.frame.with_columns(
            [pl.Series(self.prefix + name, getattr(results, name), dtype=types[name]) for name in COLUMNS]
        )


class _Arrow(Table[Any]):
    def names(self) -> Sequence[object]:
        return list(self.frame.schema.names)

    def values(self, column: str) -> Iterable[Any]:
        return (value.as_py() for value in self.frame.column(column))

    def extended(self, results: _Results) -> Any:
        import pyarrow as pa

        types = {
            "labels": pa.list_(pa.string()),
            "probabilities": pa.list_(pa.float32()),
            "model_version": pa.string(),
            "truncated": pa.bool_(),
            "error": pa.string(),
        }
        frame = self.frame
        for name in COLUMNS:
            frame = frame.append_column(self.prefix + name, pa.array(getattr(results, name), type=types[name]))
        return frame


KINDS: dict[tuple[str, str], type[Table[Any]]] = {
    ("pandas", "DataFrame"): _Pandas,
    ("polars", "DataFrame"): _Polars,
    ("pyarrow", "Table"): _Arrow,
    ("pyarrow", "RecordBatch"): _Arrow,
}


def open_table(frame: Frame, title: str | None, overview: str, prefix: str) -> Table[Frame]:
    """Returns the table of movies in `frame`. Raises TypeError and ValueError as `classify_frame` documents."""
    for (module, name), kind in KINDS.items():
        # Whoever has a table of a library has imported it.
        found = getattr(sys.modules.get(module), name, None)
        if found is not None and isinstance(frame, found):
            return kind(frame, title, overview, prefix)
    expected = ", ".join(".".join(kind) for kind in KINDS)
    raise TypeError(f"expected one of {expected}, found {type(frame).__module__}.{type(frame).__qualname__}")
