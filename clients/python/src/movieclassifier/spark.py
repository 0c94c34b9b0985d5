"""Spark: classifies the rows of a DataFrame on its executors. Needs pyspark, pandas and pyarrow.

Every executor needs this package, because grpcio is compiled code, which Spark cannot send as a .zip file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from movieclassifier import frames
from movieclassifier._channel import Tls
from movieclassifier._partition import Job

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

try:
    # Spark itself imports the other two only when a job needs them.
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
    from pyspark.sql import types
except ModuleNotFoundError as missing:
    package = (missing.name or "pyspark").partition(".")[0]
    message = f"movieclassifier.spark needs {package}: pip install 'movieclassifier[spark]'"
    raise ModuleNotFoundError(message, name=missing.name) from missing

# The types of `frames.COLUMNS`.
TYPES: dict[str, Any] = {
    "labels": types.ArrayType(types.StringType()),
    "probabilities": types.ArrayType(types.FloatType()),
    "model_version": types.StringType(),
    "truncated": types.BooleanType(),
    "error": types.StringType(),
}


def classify(
    df: DataFrame,
    address: str,
    *,
    title: str | None = "title",
    overview: str = "overview",
    prefix: str = "",
    tls: Tls | bool = False,
    api_key: str | None = None,
    min_probability: float | None = None,
    top_k: int | None = None,
    window: int = 256,
    patience: float = 60.0,
) -> DataFrame:
    """Adds the genres to a DataFrame of movies. As every transformation, it runs when its rows are needed.

    Each partition is one stream. All partitions of a Python process of an executor, which has one for each core, share
    one channel. The stream keeps the order of the rows, survives restarts of replicas, and sends rows that an
    overloaded service rejects again after a pause. Not sent yet or not answered are at most `window` rows a stream, so
    a full service slows down the job.

    Args:
        df: the movies, of Spark or Spark Connect.
        address: of classifier-svc, as in `Classifier`, seen from the executors.
        title: the column of titles; None if there is none. A null is an empty title.
        overview: the column of overviews. A row whose overview is null or blank gets an error.
        prefix: put before the names of the new columns.
        tls: as in `Classifier`. Its files must be on every executor.
        api_key: as in `Classifier`. It is sent to the executors as a part of the job.
        min_probability: as in `Classifier.classify`.
        top_k: as in `Classifier.classify`.
        window: rows that a stream sends ahead, at least 1. Values under the service's `limits.stream_in_flight` (64)
            leave it idle.
        patience: seconds for which temporary failures are retried without any progress.

    Returns:
        The same rows and columns, in the same partitions and order, with these columns added: `labels` (array of
        strings: the predicted genres, most probable first), `probabilities` (array of floats: one for each genre in the
        order of `Classifier.model().labels`), `model_version` (string), `truncated` (boolean: whether the end of the
        text was ignored) and `error` (string: why the row has none of the others, as `REASON: message`; otherwise
        null).

    Raises:
        TypeError: `df` is no DataFrame of Spark, or a column does not hold strings.
        ValueError: a column is missing, a new one would replace one of the table, or another argument is wrong.

    A failure of the whole service raises a `ServiceError` in the task. Spark retries the task on another executor, and
    in the end fails the job with the message of the error.
    """
    if not hasattr(df, "mapInArrow"):
        found = f"{type(df).__module__}.{type(df).__qualname__}"
        raise TypeError(f"expected a DataFrame of Spark, found {found}: Classifier.classify_frame takes other tables")
    schema = df.schema
    # Spark compares names without regard to case.
    frames.check_names(schema.names, title, overview, prefix, folded=True)
    for name in (title, overview):
        if name is not None and not isinstance(schema[name].dataType, types.StringType):
            raise TypeError(f"expected strings in {name!r}, found {schema[name].dataType.simpleString()}")
    job = Job(address, tls, api_key, title, overview, prefix, min_probability, top_k, window, patience)

    def classified(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return job.run(batches)

    new = [types.StructField(prefix + name, TYPES[name]) for name in frames.COLUMNS]
    return df.mapInArrow(classified, types.StructType([*schema.fields, *new]))
