"""`movieclassifier.spark` on Spark: columns, errors, restarts, overload, speed. Run by `make test-spark`.

Two tasks run at a time, each in its own Python process. `SPARK_MASTER=local-cluster[2,1,1024]` has two executors instead,
which are processes of Java of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Services, free_port, start, stop, wait_until_serving

pytest.importorskip("pyspark", reason="needs its own environment: run `make test-spark`")
built_package = pytest.importorskip("built_package")
import grpc
import pandas as pd
from fake_service import FakeService, Request, Responses, bad, good, serving
from movieclassifier import Classifier, Movie
from movieclassifier.spark import classify
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

# Fewer for a quick run by hand.
ROWS = int(os.environ.get("SPARK_ROWS", "20000"))
# Every row with such an id has no overview.
BLANK = 1_000
PROCESSES = 2


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    os.environ.update(
        PYSPARK_PYTHON=sys.executable, PYTHONPATH=str(built_package.BUILT.installed), SPARK_LOCAL_IP="127.0.0.1"
    )
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"],
    }
    builder = SparkSession.builder.master(os.environ.get("SPARK_MASTER", f"local[{PROCESSES}]"))
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def movie(number: int) -> Movie:
    return Movie(f"On day {number} a gunslinger rides into a town.", f"Movie {number}")


def table(spark: SparkSession, begin: int, count: int, partitions: int = PROCESSES) -> DataFrame:
    """Movies `begin` to `begin + count`. Those with an id that `BLANK` divides have no overview."""
    number = F.col("id").cast("string")
    overview = F.concat(F.lit("On day "), number, F.lit(" a gunslinger rides into a town."))
    return spark.range(begin, begin + count, 1, partitions).select(
        "id",
        F.concat(F.lit("Movie "), number).alias("title"),
        F.when(F.col("id") % BLANK != 0, overview).alias("overview"),
    )


@pytest.fixture
def fake() -> Iterator[str]:
    """The address of a service that answers each movie with its overview."""

    def picky(_: int, requests: Iterator[Request], context: grpc.ServicerContext) -> Responses:
        for request in requests:
            yield good(request) if request.overview else bad(request, grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_TEXT")

    service = FakeService()
    service.stream = picky
    with serving(service) as address:
        yield address


@pytest.mark.parametrize("large", ["false", "true"])
def test_columns_partitions_and_order_stay_as_they_are(spark: SparkSession, fake: str, large: str) -> None:
    spark.conf.set("spark.sql.execution.arrow.useLargeVarTypes", large)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 100)
    movies = (
        table(spark, 0, 1_500, partitions=5)
        .withColumn("at", F.timestamp_seconds("id"))
        .withColumn("price", F.lit("1.25").cast("decimal(10,2)"))
        .withColumn("tags", F.create_map(F.lit("id"), "id"))
        .withColumn("whole", F.struct("id", F.array("title").alias("titles")))
        .withColumn("bytes", F.encode("title", "utf-8"))
        .withColumn("place", F.spark_partition_id())
    )
    found = classify(movies, fake, prefix="genre_")
    new = "genre_labels array<string>, genre_probabilities array<float>, genre_model_version string"
    new += ", genre_truncated boolean, genre_error string"
    expected = [*movies.schema.fields, *spark.createDataFrame([], new).schema]
    assert found.schema.fields == expected
    before, after = movies.collect(), found.withColumn("now", F.spark_partition_id()).collect()
    assert [row[: len(movies.columns)] for row in after] == [tuple(row) for row in before]
    assert [row.now for row in after] == [row.place for row in before]
    assert [row.genre_labels for row in after] == [row.overview and [row.overview] for row in before]
    assert [row.id for row in after if row.genre_error == "EMPTY_TEXT: it failed"] == [0, 1_000]
    spark.conf.unset("spark.sql.execution.arrow.useLargeVarTypes")
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")


def test_empty_partitions_and_a_consumer_that_stops_early(spark: SparkSession, fake: str) -> None:
    assert classify(table(spark, 1, 2, partitions=4), fake).count() == 2
    assert [row.labels for row in classify(table(spark, 1, 50_000), fake, title=None).limit(1).collect()] == [
        ["On day 1 a gunslinger rides into a town."]
    ]


def test_wrong_arguments_are_rejected_before_a_job_starts(spark: SparkSession) -> None:
    movies = table(spark, 1, 2)
    wrong: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (
            ValueError,
            r"expected the columns \['plot'\], found \['id', ",
            lambda: classify(movies, "a", overview="plot"),
        ),
        (
            ValueError,
            r"has the columns \['ERROR'\] already",
            lambda: classify(movies.withColumn("ERROR", F.lit(1)), "a"),
        ),
        (TypeError, "expected strings in 'id', found bigint", lambda: classify(movies, "a", title="id")),
        (TypeError, r"found pandas\S*DataFrame: Classifier.classify_frame", lambda: classify(pd.DataFrame(), "a")),  # type: ignore[arg-type]
        (ValueError, "expected an address such as", lambda: classify(movies, "")),
        (ValueError, "expected a window of at least 1", lambda: classify(movies, "a", window=0)),
    ]
    for kind, message, call in wrong:
        with pytest.raises(kind, match=message):
            call()


def test_an_address_without_a_service_fails_the_job_and_is_named(spark: SparkSession) -> None:
    with pytest.raises(PythonException, match=r"Unavailable: UNAVAILABLE: classifier-svc at 127\.0\.0\.1:9: "):
        classify(table(spark, 1, 2, partitions=1), "127.0.0.1:9", patience=0.3).collect()


def test_the_example_of_the_readme_runs(spark: SparkSession, services: Services) -> None:
    readme = (built_package.CLIENT / "README.md").read_text(encoding="utf-8")
    (example,) = (text for text in re.findall(r"(?ms)^```python\n(.*?)^```$", readme) if "pyspark" in text)
    scope: dict[str, Any] = {}
    # In this process: the example's session is the one that runs already.
    exec(example.replace("127.0.0.1:50052", services.classifier), scope)  # noqa: S102
    rows = scope["classified"].collect()
    assert rows[0].labels == ["Documentary"] and rows[0].error is None
    assert rows[1].labels is None and rows[1].error.startswith("EMPTY_TEXT: ")


@dataclass
class Cluster:
    """A classifier with two encoders that can be killed and started again."""

    folder: Path
    settings: str
    classifier: str = ""
    http: str = ""
    encoders: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def start_encoder(self, address: str) -> None:
        file = self.folder / "encoder.toml"
        file.write_text(self.settings)
        listeners = ("--listen", address, "--http-listen", "")
        process = start("encoder-svc", "serve", "--config", str(file), *listeners)
        wait_until_serving(address, process)
        self.encoders.append((address, process))

    def restart_first_encoder(self) -> None:
        address, process = self.encoders.pop(0)
        process.kill()
        process.wait()
        time.sleep(1)
        self.start_encoder(address)

    def attempts(self) -> Counter[str]:
        """Finished attempts by outcome, and the `retries` and `hedges` that are part of them."""
        with urllib.request.urlopen(f"http://{self.http}/metrics") as response:  # noqa: S310
            text = response.read().decode()
        found = re.findall(r'(?m)^movieclassifier_encoder_attempts_total\{outcome="(\w+)"\} (\S+)', text)
        found += re.findall(r"(?m)^movieclassifier_encoder_(retries|hedges)_total (\S+)", text)
        return Counter({name: int(float(value)) for name, value in found})


@contextmanager
def cluster(folder: Path, settings: str) -> Iterator[Cluster]:
    found = Cluster(folder, settings)
    processes = []
    try:
        for _ in range(2):
            found.start_encoder(f"127.0.0.1:{free_port()}")
        found.classifier, found.http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        urls = ",".join(f"http://{address}" for address, _ in found.encoders)
        listeners = ("--listen", found.classifier, "--rest-listen", found.http)
        processes.append(start("classifier-svc", "serve", *listeners, "--encoder", urls))
        wait_until_serving(found.classifier, processes[0])
        yield found
    finally:
        for process in [*processes, *(process for _, process in found.encoders)]:
            stop(process)


def connections_to(address: str) -> int:
    """The number of established connections of a local listener, at its own end."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)


def test_a_restart_and_an_overload_lose_and_double_no_row(spark: SparkSession, tmp_path: Path) -> None:
    # The two streams have 128 movies in flight. Each encoder admits half of its limit from one caller: 32.
    settings = "[encoder]\nsessions = 1\n[limits]\nmax_batch_size = 32\ntexts_in_flight = 64\n"
    with cluster(tmp_path, settings) as services:
        rows: list[Any] = []
        begin = time.monotonic()
        # Long enough for a machine that is busy with other things.
        job = classify(table(spark, 0, ROWS), services.classifier, patience=300)
        thread = threading.Thread(target=lambda: rows.extend(job.collect()))
        thread.start()
        most_connections = 0
        while services.attempts()["ok"] < ROWS // 3:
            assert thread.is_alive(), "the job ended before a third of its rows"
            most_connections = max(most_connections, connections_to(services.classifier))
            time.sleep(0.2)
        services.restart_first_encoder()
        done_at_restart = services.attempts()["ok"]
        thread.join()
        seconds = time.monotonic() - begin
        attempts = services.attempts()
        with Classifier(services.classifier, deadline=60) as classifier:
            sample = range(1, ROWS, 499)
            expected = {
                number: list(result.probabilities)
                for number, result in zip(
                    sample, classifier.classify_many(map(movie, sample), include_scores=True, patience=300), strict=True
                )
            }
    ids = Counter(row.id for row in rows)
    lost, doubled = ROWS - len(ids), len(rows) - len(ids)
    finished = sum(attempts[outcome] for outcome in ("ok", "full", "failed", "rejected"))
    tried_again = finished - (ROWS - ROWS // BLANK)
    print(
        f"\nrows {len(rows)}, {len(rows) / seconds:.0f} rows/s; lost {lost}, doubled {doubled}; "
        f"tried again {tried_again}; attempts {dict(attempts)}; after {done_at_restart} rows the encoder was back; "
        f"connections {most_connections}"
    )
    assert (lost, doubled, len(rows)) == (0, 0, ROWS)
    assert [row.id for row in rows] == list(range(ROWS))
    errors = {row.id: row.error.partition(":")[0] for row in rows if row.error is not None}
    assert errors == dict.fromkeys(range(0, ROWS, BLANK), "EMPTY_TEXT")
    assert {number: rows[number].probabilities for number in expected} == expected
    assert attempts["full"] > 0 and attempts["failed"] > 0, "expected an overload and a restart"
    assert tried_again > 0 and done_at_restart < ROWS
    assert most_connections == PROCESSES


def test_a_job_is_about_as_fast_as_the_client_alone(spark: SparkSession, tmp_path: Path) -> None:
    """Alternates between both, so that other load on the machine slows both down."""
    part = ROWS // 4
    # More than the size of the cache, and every movie is different anyway.
    with cluster(tmp_path, "[encoder]\nsessions = 1\ncache_mib = 0\n") as services:

        def job(begin: int) -> float:
            movies = table(spark, begin, part)
            started = time.monotonic()
            classify(movies, services.classifier, patience=300).write.format("noop").mode("overwrite").save()
            return time.monotonic() - started

        def client(begin: int) -> float:
            """The same movies over as many streams, from threads of this process."""
            done: list[int] = []

            def stream(classifier: Classifier, numbers: range) -> None:
                movies = (movie(number) if number % BLANK else Movie("") for number in numbers)
                results = classifier.classify_many(movies, include_scores=True, errors="return", patience=300)
                done.append(sum(1 for _ in results))

            started = time.monotonic()
            with Classifier(services.classifier, deadline=60) as classifier:
                halves = (range(begin, begin + part // 2), range(begin + part // 2, begin + part))
                threads = [threading.Thread(target=stream, args=(classifier, half)) for half in halves]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            assert sum(done) == part
            return time.monotonic() - started

        # Starts the Python processes of the executors and fills the pages of the encoders.
        classify(table(spark, 10 * ROWS, 200), services.classifier, patience=300).collect()
        order = [job, client, client, job, job, client, client, job]
        times = [(run, run(number * part)) for number, run in enumerate(order)]
    alone, spark_s = (sum(seconds for run, seconds in times if run is kind) for kind in (client, job))
    count = 4 * part
    ratio = alone / spark_s
    print(
        f"\n{count} rows each: Spark {count / spark_s:.0f} rows/s, client {count / alone:.0f} rows/s, ratio {ratio:.3f}"
    )
    print("seconds:", [(run.__name__, round(seconds, 1)) for run, seconds in times])
    assert ratio >= 0.9
