"""The part of `movieclassifier.spark` that runs on executors, with batches as Spark passes them, but without Spark."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

built_package = pytest.importorskip("built_package", reason="needs its own environment: run `make test-python-client`")
import grpc
import pyarrow as pa
from fake_service import FakeService, Request, Responses, bad, good, serving
from movieclassifier import Unavailable
from movieclassifier._partition import Job, classifier_of


def job(address: str, *, window: int = 256, patience: float = 60.0, api_key: str | None = None) -> Job:
    return Job(address, False, api_key, "title", "overview", "", None, None, window, patience)


def batch(ids: range, overview: Callable[[int], str | None] = str) -> pa.RecordBatch:
    columns = {
        "id": pa.array(ids, pa.int64()),
        "title": pa.array([None] * len(ids), pa.string()),
        "overview": pa.array(map(overview, ids), pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns)


@pytest.fixture
def fake() -> FakeService:
    return FakeService()


@pytest.fixture
def address(fake: FakeService) -> Iterator[str]:
    with serving(fake) as found:
        yield found


def test_batches_keep_their_rows_order_and_columns_over_one_stream(fake: FakeService, address: str) -> None:
    given = [batch(range(0, 700)), batch(range(700, 701)), batch(range(701, 1000))]
    found = list(job(address).run(iter(given)))
    assert [one.num_rows for one in found] == [700, 1, 299]
    table = pa.Table.from_batches(found)
    assert table.select(["id", "title", "overview"]) == pa.Table.from_batches(given)
    assert table["labels"].to_pylist() == [[str(number)] for number in range(1000)]
    assert (table["error"].null_count, fake.streams, len(fake.received)) == (1000, 1, 1000)


@pytest.mark.parametrize("sizes", [[], [0], [0, 0, 3], [2, 0, 0, 1], [3, 0]])
def test_batches_without_rows_are_kept(address: str, sizes: list[int]) -> None:
    found = list(job(address).run(batch(range(size)) for size in sizes))
    assert [one.num_rows for one in found] == sizes
    assert len({one.schema for one in found}) <= 1


def test_a_row_that_cannot_be_classified_keeps_its_place(fake: FakeService, address: str) -> None:
    def picky(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            yield good(request) if request.overview else bad(request, grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_TEXT")

    fake.stream = picky
    (found,) = job(address).run(iter([batch(range(9), lambda number: None if number % 3 == 1 else str(number))]))
    errors = [row["id"] for row in found.to_pylist() if row["error"] == "EMPTY_TEXT: it failed" and not row["labels"]]
    assert (errors, found["labels"].null_count) == ([1, 4, 7], 3)


def test_rows_of_an_overloaded_service_are_sent_again_and_come_once(fake: FakeService, address: str) -> None:
    rejected = set()

    def full(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            if int(request.id) % 5 == 0 and request.id not in rejected:
                rejected.add(request.id)
                yield bad(request, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            else:
                yield good(request)

    fake.stream = full
    found = pa.Table.from_batches(job(address).run(iter([batch(range(60)), batch(range(60, 100))])))
    assert found["labels"].to_pylist() == [[str(number)] for number in range(100)]
    assert (len(rejected), len(fake.received)) == (20, 120)


def test_partitions_of_a_process_share_a_channel(fake: FakeService, address: str) -> None:
    for _ in range(3):
        list(job(address).run(iter([batch(range(3))])))
    assert fake.streams == 3
    assert classifier_of(address, False, None) is classifier_of(address, False, None)
    assert classifier_of(address, False, None) is not classifier_of(address, False, "key")


def test_no_more_rows_are_read_than_the_window_holds(fake: FakeService, address: str) -> None:
    release = threading.Event()

    def silent(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        assert release.wait(60)
        for request in requests:
            yield good(request)

    fake.stream = silent
    read = []
    enough = threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(100):
            read.append(number)
            if len(read) == 4:
                enough.set()
            yield batch(range(number * 10, number * 10 + 10))

    results = job(address, window=40).run(batches())
    first: list[pa.RecordBatch] = []
    taking = threading.Thread(target=lambda: first.append(next(results)))
    taking.start()
    assert enough.wait(60)
    # Time enough to read more, if it did.
    taking.join(0.3)
    assert (len(read), first) == (4, [])
    release.set()
    taking.join(60)
    assert first[0]["id"].to_pylist() == list(range(10))
    rest = sum(one.num_rows for one in results)
    assert (rest, len(read)) == (990, 100)


def test_a_consumer_that_stops_early_ends_the_stream(fake: FakeService, address: str) -> None:
    ended = threading.Event()

    def watched(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        context.add_callback(ended.set)
        for request in requests:
            yield good(request)

    fake.stream = watched
    results = job(address, window=8).run(batch(range(10)) for _ in range(1000))
    assert next(results).num_rows == 10
    results.close()  # type: ignore[attr-defined]
    assert ended.wait(30)
    assert len(fake.received) < 100


def test_a_failure_of_the_service_names_its_address() -> None:
    with pytest.raises(Unavailable, match=r"classifier-svc at 127\.0\.0\.1:9: ") as raised:
        list(job("127.0.0.1:9", patience=0.3).run(iter([batch(range(3))])))
    assert raised.value.index is None


def test_a_failure_of_the_input_is_raised_after_the_rows_before_it(address: str) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield batch(range(2))
        raise EOFError("the input broke")

    results = job(address).run(broken())
    assert next(results).num_rows == 2
    with pytest.raises(EOFError, match="the input broke"):
        next(results)


def test_a_job_can_be_pickled_and_does_not_print_its_key() -> None:
    found = job("127.0.0.1:9", api_key="sesame")
    assert pickle.loads(pickle.dumps(found)) == found
    assert "sesame" not in repr(found)


def test_wrong_arguments_are_rejected_before_a_job_starts() -> None:
    with pytest.raises(ValueError, match="expected a window of at least 1 and a patience over 0, found 0 and"):
        job("127.0.0.1:9", window=0)
    with pytest.raises(ValueError, match="expected an address such as"):
        job("")
    with pytest.raises(ValueError, match="expected an address with https for TLS"):
        Job("http://localhost:1", True, None, "title", "overview", "", None, None, 256, 60.0)


@pytest.mark.parametrize("absent", ["pyspark", "pandas", "pyarrow"])
def test_an_import_without_a_package_names_the_extra(absent: str) -> None:
    # Not every environment has pyspark, so another module takes its place.
    script = f"""
import sys, types
for name in ("pyspark", "pyspark.sql", "pyspark.sql.types", "pandas", "pyarrow"):
    sys.modules[name] = None if name.partition(".")[0] == {absent!r} else types.ModuleType(name)
try:
    import movieclassifier.spark
except ModuleNotFoundError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(built_package.BUILT.installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = f"movieclassifier.spark needs {absent}: pip install 'movieclassifier[spark]'"
    assert (result.stdout.strip(), result.stderr) == (expected, "")
