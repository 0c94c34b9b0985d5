"""`classify_frame`: the same rows in the same order, whatever library the table is of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("built_package", reason="needs an environment of its own: run `make test-python-client`")
import grpc
import pandas as pd
import polars as pl
import pyarrow as pa
from fake_service import FakeService, Request, Responses, bad, good, serving
from movieclassifier import Classifier, Unavailable

TITLES = ["Reef", None, "Dust Creek"]
OVERVIEWS = ["a reef", None, "a gunslinger"]
ROWS = {"id": [7, 8, 9], "title": TITLES, "overview": OVERVIEWS}
KINDS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow table": pa.table,
    "pyarrow batch": pa.RecordBatch.from_pydict,
}


def picky(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
    for request in requests:
        yield good(request) if request.overview else bad(request, grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_TEXT")


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    fake = FakeService()
    fake.stream = picky
    with serving(fake) as address, Classifier(address) as found:
        yield found


def columns(frame: Any) -> dict[str, list[Any]]:
    """The table as lists, with None for every null."""
    if isinstance(frame, pd.DataFrame):
        frame = frame.astype("object").where(frame.notna(), None)
        return {str(name): list(values) for name, values in frame.items()}
    found: dict[str, list[Any]] = (
        frame.to_dict(as_series=False) if isinstance(frame, pl.DataFrame) else frame.to_pydict()
    )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_kept_and_an_error_stays_with_its_row(classifier: Classifier, kind: str) -> None:
    frame: Any = KINDS[kind](ROWS)
    before = columns(frame)
    result = classifier.classify_frame(frame)
    assert type(result) is type(frame) and columns(frame) == before
    assert columns(result) == {
        **ROWS,
        "labels": [["a reef"], None, ["a gunslinger"]],
        "probabilities": [[0.75], None, [0.75]],
        "model_version": ["fake", None, "fake"],
        "truncated": [False, None, False],
        "error": [None, "EMPTY_TEXT: it failed", None],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_rows_gets_the_columns(classifier: Classifier, kind: str) -> None:
    empty: Any = KINDS[kind]({"title": [], "overview": []})
    result = columns(classifier.classify_frame(empty))
    assert list(result) == ["title", "overview", "labels", "probabilities", "model_version", "truncated", "error"]
    assert set(map(len, result.values())) == {0}


def test_the_types_of_new_columns_do_not_depend_on_the_rows(classifier: Classifier) -> None:
    empty = pa.table({"overview": pa.array([], pa.string())})
    full = pa.table({"overview": ["a reef", None]})
    schemas = [classifier.classify_frame(table, title=None).schema for table in (empty, full)]
    assert schemas[0] == schemas[1]
    assert schemas[0].field("probabilities").type == pa.list_(pa.float32())


def test_an_index_of_pandas_is_kept_and_columns_may_be_renamed(classifier: Classifier) -> None:
    frame = pd.DataFrame({"Plot": OVERVIEWS, "error": [1, 2, 3]}, index=["a", "b", "b"])
    result = classifier.classify_frame(frame, title=None, overview="Plot", prefix="genre_")
    assert list(result.index) == ["a", "b", "b"]
    assert list(result["error"]) == [1, 2, 3] and list(result["genre_error"])[1] == "EMPTY_TEXT: it failed"


@pytest.mark.parametrize("nulls", [None, float("nan"), pd.NA])
def test_every_null_of_pandas_is_an_empty_text(classifier: Classifier, nulls: object) -> None:
    frame = pd.DataFrame({"overview": pd.Series(["a reef", nulls], dtype="object")})
    assert list(classifier.classify_frame(frame, title=None)["error"].notna()) == [False, True]


def test_wrong_tables_are_rejected_before_a_call() -> None:
    with Classifier("127.0.0.1:9") as classifier:
        with pytest.raises(TypeError, match=r"expected one of pandas\.DataFrame.*found builtins\.list"):
            classifier.classify_frame(["a"])
        with pytest.raises(ValueError, match=r"expected the columns \['title'\], found \['overview'\]"):
            classifier.classify_frame(pd.DataFrame({"overview": ["a"]}))
        with pytest.raises(ValueError, match=r"has the columns \['error'\] already"):
            classifier.classify_frame(pl.DataFrame({"overview": ["a"], "error": ["b"]}), title=None)


def test_a_column_of_numbers_is_a_type_error(classifier: Classifier) -> None:
    with pytest.raises(TypeError, match="expected strings in 'overview', found int in row 0"):
        classifier.classify_frame(pl.DataFrame({"overview": [1]}), title=None)


def test_a_failure_of_the_service_is_no_row() -> None:
    with Classifier("127.0.0.1:9") as classifier, pytest.raises(Unavailable):
        classifier.classify_frame(pd.DataFrame(ROWS), patience=0.3)
