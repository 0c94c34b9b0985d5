"""Measures what a hostile API key does to a polite one.

The polite key classifies movies at a steady rate, first alone, then beside a hostile key that sends more than the services
can take: streams of long movies, large batches, and calls by the dozen. Exits with 1 if fewer than 99.9 % of the polite
calls succeed, if their p99 grows to more than twice that of the first part, or if a service panics. Run by
`make soak-fairness`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from soak import CLASSIFIER, ROOT, WORDS, Client, Minute, Service

sys.path.insert(0, str(ROOT / "tests"))
from conftest import free_port, wait_until_serving  # noqa: E402
from reflection import ReflectionClient, with_key  # noqa: E402

SUCCESS = 0.999
P99_RATIO = 2.0


class Polite(Client):
    """A client with an API key."""

    def __init__(self, address: str, key: str) -> None:
        with grpc.insecure_channel(address) as channel:
            path, self.request, response = ReflectionClient(with_key(channel, key)).method(CLASSIFIER, "Classify")
        self.prepare(address, path, response, None)
        self.classify = functools.partial(self.classify, metadata=(("x-api-key", key),))


class Hostile:
    """A key that keeps the services as busy as it can, until it is cancelled."""

    def __init__(self, address: str, key: str) -> None:
        self.metadata = (("x-api-key", key),)
        self.channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(3)]
        with grpc.insecure_channel(address) as channel:
            client = ReflectionClient(with_key(channel, key))
            self.methods = {name: client.method(CLASSIFIER, name) for name in ("Classify", "BatchClassify", "ClassifyStream")}
        self.numbers = itertools.count()
        self.outcomes: Counter[str] = Counter()

    def movie(self, words: int) -> dict[str, str]:
        """Returns a movie that no cache knows."""
        number = next(self.numbers)
        return {"overview": f"{number} " + " ".join(WORDS[(number * 7 + word) % len(WORDS)] for word in range(words))}

    async def stream(self) -> None:
        path, request, response = self.methods["ClassifyStream"]
        call = self.channels[0].stream_stream(path, request.SerializeToString, response.FromString)

        async def movies() -> Any:
            for number in itertools.count():
                yield request(id=str(number), **self.movie(400))

        async for item in call(movies(), metadata=self.metadata):
            self.outcomes[f"stream {item.WhichOneof('result')}"] += 1

    async def unary(self, method: str, channel: int, **fields: Any) -> None:
        path, request, response = self.methods[method]
        call = self.channels[channel].unary_unary(path, request.SerializeToString, response.FromString)
        await call(request(**fields), metadata=self.metadata, timeout=20)
        self.outcomes[method] += 1

    async def batch(self) -> None:
        await self.unary("BatchClassify", 1, movies=[self.movie(200) for _ in range(256)])

    async def single(self) -> None:
        await self.unary("Classify", 2, **self.movie(60), explain=True)

    async def for_ever(self, send: Any) -> None:
        while True:
            try:
                await send()
            except grpc.aio.AioRpcError as error:
                self.outcomes[error.code().name] += 1
                await asyncio.sleep(0.02)

    def start(self) -> list[asyncio.Task[None]]:
        habits = [self.stream] * 4 + [self.batch] * 8 + [self.single] * 24
        return [asyncio.create_task(self.for_ever(habit)) for habit in habits]


def start(binaries: Path, folder: Path) -> list[Service]:
    encoder = Service("encoder", [], f"127.0.0.1:{free_port()}", folder / "encoder.log")
    encoder.command = [binaries / "encoder-svc", "serve", "--listen", encoder.address, "--http-listen", ""]
    classifier = Service("classifier", [], f"127.0.0.1:{free_port()}", folder / "classifier.log")
    keys = "".join(
        f'[[auth.keys]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n' for name in ("polite", "hostile")
    )
    settings = folder / "classifier.toml"
    settings.write_text(f'[rest]\nlisten = ""\n[encoder]\nurl = "http://{encoder.address}"\n{keys}')
    classifier.command = [binaries / "classifier-svc", "serve", "--listen", classifier.address, "--config", settings]
    for service in (encoder, classifier):
        service.start()
        assert service.process is not None
        wait_until_serving(service.address, service.process)
    return [encoder, classifier]


def figures(minutes: list[Minute]) -> dict[str, Any]:
    whole = Minute([second for minute in minutes for second in minute.seconds], sum((minute.failures for minute in minutes), Counter()))
    answered, failed = len(whole.seconds), whole.failures.total()
    return {
        "calls": answered + failed,
        "success": answered / (answered + failed),
        **{name: whole.quantile(part) for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("slowest_ms", 1.0))},
        "failures": dict(whole.failures.most_common(5)),
    }


async def measure(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="fairness") as name:
        services = start(options.binaries, Path(name))
        try:
            address = services[1].address
            polite = Polite(address, "polite")
            await polite.closed(8, 3)
            capacity = await polite.closed(8, options.capacity_seconds)
            rate = capacity * options.load
            found = {"calls_a_second": rate, "load": options.load}
            print(f"{capacity:.0f} calls per second are the capacity; the polite key makes {rate:.0f} per second", file=sys.stderr)
            await polite.open(rate, options.minutes_alone * 60, lambda _: None)
            found["alone"] = figures(polite.minutes)
            print(json.dumps(found["alone"]), file=sys.stderr)
            hostile = Hostile(address, "hostile")
            tasks = hostile.start()
            await asyncio.sleep(5)
            hostile.outcomes.clear()
            begin = time.monotonic()
            await polite.open(rate, options.minutes * 60, lambda _: None)
            found["beside"] = figures(polite.minutes)
            found["hostile"] = {"seconds": time.monotonic() - begin, "outcomes": dict(hostile.outcomes)}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for service in services:
                if service.process is not None and service.process.poll() is None:
                    service.process.kill()
                    service.process.wait()
        panics = sum("panicked" in service.log.read_text(errors="replace") for service in services)
    ratio = found["beside"]["p99_ms"] / found["alone"]["p99_ms"]
    print(json.dumps({**found, "p99_ratio": ratio, "panics": panics}, indent=2))
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps({**found, "p99_ratio": ratio, "panics": panics}) + "\n")
    return 1 if panics or found["beside"]["success"] < SUCCESS or ratio > P99_RATIO else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, default=ROOT / "target" / "release", help="folder of the binaries")
    parser.add_argument("--minutes-alone", type=float, default=5, help="minutes of the polite key alone")
    parser.add_argument("--minutes", type=float, default=25, help="minutes of the polite key beside the hostile one")
    parser.add_argument("--load", type=float, default=0.25, help="fraction of the capacity that the polite key asks for")
    parser.add_argument("--capacity-seconds", type=float, default=15, help="seconds to measure the capacity")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "soak-fairness.json", help="file for the figures")
    return asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
