"""The part of `movieclassifier.spark` that runs on executors. It needs pyarrow, and not pyspark."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from movieclassifier import frames
from movieclassifier._channel import Connection, Tls
from movieclassifier._window import Window
from movieclassifier.client import Classifier
from movieclassifier.errors import ServiceError, error_of
from movieclassifier.results import Movie

if TYPE_CHECKING:
    import pyarrow as pa


@functools.cache
def classifier_of(address: str, tls: Tls | bool, api_key: str | None) -> Classifier:
    """Returns the client of this process. Spark reuses processes, so the partitions of a job share its channel."""
    return Classifier(address, tls=tls, api_key=api_key)


@dataclass(frozen=True, slots=True)
class Job:
    """How to classify a partition. Spark pickles it; the arguments are those of `movieclassifier.spark.classify`.

    Raises:
        ValueError: an argument is out of range, or the address and `tls` contradict each other.
    """

    address: str
    tls: Tls | bool
    api_key: str | None = field(repr=False)
    title: str | None
    overview: str
    prefix: str
    min_probability: float | None
    top_k: int | None
    window: int
    patience: float

    def __post_init__(self) -> None:
        # Both raise for wrong arguments. Here that fails in the driver, before a job starts.
        Connection.to(self.address, self.tls)
        options = {"min_probability": self.min_probability, "top_k": self.top_k}
        Window(self.window, self.patience, "return", options, time.monotonic())

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields each batch with the new columns, in order, over one stream for all batches.

        Raises:
            ServiceError: the service failed. Errors of single rows do not raise.
        """
        open_tables: deque[frames.Table[pa.RecordBatch]] = deque()

        def movies() -> Iterator[Movie]:
            # Runs on the thread of `classify_many` that reads the input, so Spark computes the next rows meanwhile.
            for batch in batches:
                table = frames.open_table(batch, self.title, self.overview, self.prefix)
                open_tables.append(table)
                yield from table.movies()

        results = classifier_of(self.address, self.tls, self.api_key).classify_many(
            movies(),
            include_scores=True,
            min_probability=self.min_probability,
            top_k=self.top_k,
            errors="return",
            window=self.window,
            patience=self.patience,
        )
        with contextlib.closing(results):
            try:
                for first in results:
                    rest = itertools.chain([first], results)
                    yield from _without_rows(open_tables)
                    table = open_tables.popleft()
                    yield table.with_results(itertools.islice(rest, table.frame.num_rows))
            except ServiceError as error:
                message = f"classifier-svc at {self.address}: {error.message}"
                raise error_of(error.code, message, error.reason, violations=error.violations) from error
            yield from _without_rows(open_tables)


def _without_rows(tables: deque[frames.Table[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Takes the tables without rows from the front. They have no result to wait for."""
    while tables and tables[0].frame.num_rows == 0:
        yield tables.popleft().with_results(())
