"""Runs both services at 80 % of their capacity while models are replaced and an encoder is restarted.

After ten minutes of warm-up it measures for twenty. It reports failed calls, latency, memory and file descriptors, and exits
with 1 if a call fails, a service panics, or memory grows. One encoder runs all the time. The other one is stopped, alternately
by SIGTERM and SIGKILL, and restarted. Run by `make soak`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import proc  # noqa: E402
from certificates import Certificate  # noqa: E402
from conftest import free_port, wait_until_serving  # noqa: E402
from movies import write_movies  # noqa: E402
from reflection import ReflectionClient  # noqa: E402

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
DEADLINE_SECONDS = 5.0
SAMPLE_SECONDS = 5.0
MIB = 1 << 20
WORDS = (
    "a keeper of bees finds letters under the floor of her house while the river rises and an old enemy comes to the "
    "village with a map nobody has seen since the war in which two brothers lost a farm horse and each other"
).split()


@dataclass
class Service:
    """A service whose process may be replaced."""

    name: str
    command: list[str | Path]
    address: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    samples: list[tuple[float, float, int]] = field(default_factory=list)
    """Time in seconds, resident MiB, open file descriptors."""

    def start(self) -> None:
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)

    def end(self, which: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(which)
        self.process.wait(timeout=60)

    def sample(self, seconds: float) -> None:
        assert self.process is not None
        pid = self.process.pid
        self.samples.append((seconds, proc.resident(pid) / MIB, proc.descriptors(pid)))


@dataclass
class Minute:
    """The results of the calls of one minute."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def quantile(self, part: float) -> float:
        """Returns a latency quantile in milliseconds."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


class Client:
    """Calls `Classify` over one channel and records the results."""

    metadata: tuple[tuple[str, str], ...] = ()
    request: Any

    def __init__(self, address: str) -> None:
        # Message types come from reflection over a separate, blocking channel.
        with grpc.insecure_channel(address) as channel:
            path, self.request, response = ReflectionClient(channel).method(CLASSIFIER, "Classify")
        self.prepare(address, path, response, None)

    def prepare(self, address: str, path: str, response: Any, tls: Certificate | None) -> None:
        credentials = grpc.ssl_channel_credentials(tls.certificate.read_bytes()) if tls else None
        self.channel = grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
        self.classify = self.channel.unary_unary(path, self.request.SerializeToString, response.FromString)
        self.random = random.Random(0)
        self.minutes: list[Minute] = []
        self.versions: Counter[str] = Counter()
        self.begin = time.monotonic()

    def sentence(self, words: int) -> Any:
        return self.request(overview=" ".join(self.random.choices(WORDS, k=words)).capitalize() + ".")

    def movie(self) -> Any:
        return self.sentence(self.random.randint(20, 90))

    async def call(self) -> None:
        begin = time.monotonic()
        minute = int((begin - self.begin) / 60)
        while len(self.minutes) <= minute:
            self.minutes.append(Minute())
        try:
            response = await self.classify(self.movie(), timeout=DEADLINE_SECONDS, metadata=self.metadata)
            self.versions[response.model_version] += 1
            self.minutes[minute].seconds.append(time.monotonic() - begin)
        except grpc.aio.AioRpcError as error:
            self.minutes[minute].failures[f"{error.code().name}: {error.details()}"] += 1

    async def closed(self, callers: int, seconds: float) -> float:
        """Runs `callers` closed loops and returns their total calls per second."""
        end, done = time.monotonic() + seconds, 0

        async def one() -> None:
            nonlocal done
            while time.monotonic() < end:
                await self.call()
                done += 1

        await asyncio.gather(*(one() for _ in range(callers)))
        return done / seconds

    async def open(self, rate: float, seconds: float, on_progress: Callable[[float], None]) -> None:
        """Starts `rate` calls per second, without waiting for earlier ones."""
        self.minutes, self.versions, self.begin = [], Counter(), time.monotonic()
        calls: set[asyncio.Task[None]] = set()
        said = 0.0
        for number in range(int(rate * seconds)):
            due = self.begin + number / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self.call())
            calls.add(task)
            task.add_done_callback(calls.discard)
            if due - self.begin - said >= 1:
                said = due - self.begin
                on_progress(said)
        await asyncio.gather(*calls)


@contextmanager
def fleet(binaries: Path, folder: Path) -> Iterator[tuple[Service, Service, Service, Path]]:
    """Yields the classifier, the steady encoder, the restarted encoder and the model file."""
    model = folder / "model.safetensors"
    shutil.copy(ROOT / "models" / "default.safetensors", model)

    def service(name: str, binary: str, *options: str | Path) -> Service:
        address = f"127.0.0.1:{free_port()}"
        command = [binaries / binary, "serve", "--listen", address, *options]
        return Service(name, command, address, folder / f"{name}.log")

    encoders = [
        service(name, "encoder-svc", "--http-listen", "", "--sessions", "1") for name in ("encoder", "encoder, restarted")
    ]
    urls = ",".join(f"http://{encoder.address}" for encoder in encoders)
    classifier = service("classifier", "classifier-svc", "--rest-listen", "", "--model", model, "--encoder", urls)
    everything = [*encoders, classifier]
    try:
        for started in everything:
            started.start()
            assert started.process is not None
            wait_until_serving(started.address, started.process)
        yield classifier, encoders[0], encoders[1], model
    finally:
        for started in everything:
            if started.process is not None and started.process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    started.end(signal.SIGTERM)


def second_model(binaries: Path, folder: Path, encoder: Service) -> Path:
    """Fits a second model on made-up movies, for the same encoder."""
    movies, vectors, model = (folder / name for name in ("movies.csv", "vectors.parquet", "second.safetensors"))
    write_movies(movies, 300)
    url = f"http://{encoder.address}"
    for arguments in (
        ("encode", "--input", movies, "--encoder", url, "--output", vectors),
        ("fit", "--vectors", vectors, "--epochs", "1", "--output", model),
    ):
        subprocess.run([binaries / "trainer", *arguments], cwd=ROOT, check=True, capture_output=True)
    return model


@dataclass
class Disturbances:
    """The disturbances of the services so far."""

    reloads: int = 0
    restarts: int = 0


async def disturb(over: asyncio.Event, model: Path, models: list[Path], encoder: Service, done: Disturbances, pause: float) -> None:
    """Alternately replaces the model and restarts the encoder, with a pause in between."""
    next_model, next_signal = itertools.cycle([*models[1:], models[0]]), itertools.cycle([signal.SIGTERM, signal.SIGKILL])
    for turn in itertools.count():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), pause)
            return
        if turn % 2 == 0:
            draft = model.with_suffix(".draft")
            shutil.copy(next(next_model), draft)
            draft.rename(model)
            done.reloads += 1
        else:
            await asyncio.to_thread(encoder.end, next(next_signal))
            await asyncio.sleep(1)
            encoder.start()
            done.restarts += 1


async def sample(over: asyncio.Event, services: list[Service], begin: float) -> None:
    while not over.is_set():
        for service in services:
            # A process that is restarting has no figures.
            with suppress(OSError, StopIteration):
                service.sample(time.monotonic() - begin)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), SAMPLE_SECONDS)


def slope_per_hour(samples: list[tuple[float, float, int]], warm_up: float) -> float:
    """Returns the growth in MiB per hour: the median slope of all pairs (Theil-Sen), which ignores single steps."""
    kept = [(seconds, resident) for seconds, resident, _ in samples if seconds >= warm_up]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) * 3600 for a, b in itertools.combinations(kept, 2) if b[0] > a[0]]
    return statistics.median(slopes) if slopes else float("nan")


def table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def slopes(services: list[Service], warm_up: float) -> dict[str, float]:
    """Returns the growth in MiB per hour of each service that is never restarted."""
    return {service.name: slope_per_hour(service.samples, warm_up) for service in services if "restarted" not in service.name}


def report(
    client: Client, services: list[Service], growth: dict[str, float], disturbances: Disturbances, rate: float, load: float, warm_up: float
) -> str:
    calls = sum(len(minute.seconds) for minute in client.minutes)
    failures = sum((minute.failures for minute in client.minutes), Counter[str]())
    whole = [minute for minute in client.minutes if len(minute.seconds) > 30 * rate]
    after = whole[int(warm_up / 60) :] or whole
    half = len(after) // 2
    medians = [minute.quantile(0.5) for minute in after]
    drift = statistics.median(medians[half:]) / statistics.median(medians[:half]) if half else float("nan")
    parts = [
        f"{calls + failures.total():,} calls at {rate:.0f} per second ({load:.0%} of capacity) in {len(client.minutes)} minutes; "
        f"{disturbances.reloads} model reloads, {disturbances.restarts} encoder restarts by SIGTERM and SIGKILL; "
        f"responses from {len(client.versions)} model versions. Failed: {failures.total()}. "
        f"Ratio of the median latency of the second half to the first, after {warm_up / 60:.0f} minutes of warm-up: {drift:.3f}.",
        table([(f"{count}", what) for what, count in failures.most_common()], ("failed calls", "with")) if failures else "",
        table(
            [
                (str(number + 1), str(len(minute.seconds)), *(f"{minute.quantile(q):.1f}" for q in (0.5, 0.99, 1.0)), str(minute.failures.total()))
                for number, minute in enumerate(client.minutes)
            ],
            ("minute", "answered", "p50, ms", "p99, ms", "slowest, ms", "failed"),
        ),
        table(
            [
                (
                    service.name,
                    f"{service.samples[0][1]:.1f}",
                    f"{service.samples[-1][1]:.1f}",
                    f"{max(resident for _, resident, _ in service.samples):.1f}",
                    f"{growth[service.name]:+.2f}" if service.name in growth else "-",
                    f"{service.samples[0][2]} to {service.samples[-1][2]}, at most {max(count for *_, count in service.samples)}",
                )
                for service in services
            ],
            ("service", "MiB at first", "at last", "at most", "slope, MiB per hour", "file descriptors"),
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


async def soak(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        folder = Path(name)
        with fleet(options.binaries, folder) as (classifier, steady, restarted, model):
            models = [ROOT / "models" / "default.safetensors", second_model(options.binaries, folder, steady)]
            client = Client(classifier.address)
            await client.closed(8, 3)
            capacity = await client.closed(8, options.capacity_seconds)
            rate = capacity * options.load
            minutes = options.warm_up + options.minutes
            print(f"{capacity:.0f} calls per second are the capacity; running {rate:.0f} per second for {minutes:g} minutes", file=sys.stderr)
            services, disturbances, over = [classifier, steady, restarted], Disturbances(), asyncio.Event()
            others = [
                asyncio.create_task(sample(over, services, time.monotonic())),
                asyncio.create_task(disturb(over, model, models, restarted, disturbances, options.pause)),
            ]

            def on_progress(seconds: float) -> None:
                if not sys.stderr.isatty():
                    return
                failed = sum(minute.failures.total() for minute in client.minutes)
                sys.stderr.write(f"\r{seconds / 60:5.1f} of {minutes:g} minutes, {failed} failed, {classifier.samples[-1][1]:.1f} MiB ")

            await client.open(rate, minutes * 60, on_progress)
            over.set()
            await asyncio.gather(*others)
            await client.channel.close()
        growth = slopes(services, options.warm_up * 60)
        panics = sum("panicked" in service.log.read_text(errors="replace") for service in services)
    text = report(client, services, growth, disturbances, rate, options.load, options.warm_up * 60)
    print(f"\n{text}")
    failures = sum(minute.failures.total() for minute in client.minutes)
    figures = {
        "calls_a_second": rate,
        "load": options.load,
        "minutes": [
            {"p50_ms": m.quantile(0.5), "p99_ms": m.quantile(0.99), "answered": len(m.seconds), "failed": m.failures.total()} for m in client.minutes
        ],
        "failed": failures,
        "panics": panics,
        "slope_mib_an_hour": growth,
        "samples": {s.name: s.samples for s in services},
    }
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(figures) + "\n")
    if panics:
        print(f"{panics} services panicked", file=sys.stderr)
    grown = {name: slope for name, slope in growth.items() if not slope < options.slope_limit}
    for name, slope in grown.items():
        print(f"{name}: expected less than {options.slope_limit:g} MiB per hour, found {slope:+.2f}", file=sys.stderr)
    return 1 if panics or failures or grown else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, default=ROOT / "target" / "release", help="folder of the binaries")
    parser.add_argument("--minutes", type=float, default=20, help="minutes to measure after the warm-up")
    parser.add_argument("--warm-up", type=float, default=10, help="minutes of warm-up, whose memory and latency do not count")
    parser.add_argument("--slope-limit", type=float, default=1, help="largest accepted memory growth, in MiB per hour")
    parser.add_argument("--load", type=float, default=0.8, help="fraction of the capacity, which is measured first")
    parser.add_argument("--capacity-seconds", type=float, default=15, help="seconds to measure the capacity")
    parser.add_argument("--pause", type=float, default=30, help="seconds between disturbances (alternately a reload and a restart)")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "soak.json", help="file for the figures")
    return asyncio.run(soak(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
