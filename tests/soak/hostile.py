"""Two callers with a key each share both services: a polite one at a steady rate, and a hostile one that attacks in turns.

Rounds alternate: the polite caller alone, then beside one attack after the other. It exits with 1 if the polite caller's success
rate beside the attacks is under 99.9 %, if its p99 is more than twice its p99 alone, or if a service panics or outgrows its bound
of memory. Run by `make soak-hostile`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "abuse"), str(ROOT / "tests" / "soak")]
import abused  # noqa: E402
from attacks import ATTACKS  # noqa: E402
from bounds import growth_bound  # noqa: E402
from certificates import self_signed  # noqa: E402
from reflection import ReflectionClient, with_key  # noqa: E402
from soak import CLASSIFIER, MIB, Client, Minute, table  # noqa: E402

SUCCESS, P99_RATIO = 0.999, 2.0
KEYS = ("polite", "hostile", "classifier")
# One in this many movies of the polite caller has a long overview. The longest text of anybody occupies a worker until its
# vector is there, so the tail of the caller's own latency must know such texts too.
LONG_EVERY = 20
LONG_WORDS = 700


class Polite(Client):
    """Calls `Classify` with a key, at a steady rate."""

    def __init__(self, service: abused.Service, key: str) -> None:
        with service.channel() as channel:
            client = ReflectionClient(with_key(channel, key))
            path, self.request, response = client.method(CLASSIFIER, "Classify")
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.prepare(service.grpc, path, response, service.tls)

    def movie(self) -> object:
        if self.random.randrange(LONG_EVERY):
            return super().movie()
        return self.sentence(LONG_WORDS)


@dataclass
class Figures:
    """The polite caller's calls under one condition."""

    calls: Minute = field(default_factory=Minute)

    def add(self, minutes: list[Minute]) -> None:
        for minute in minutes:
            self.calls.seconds += minute.seconds
            self.calls.failures += minute.failures

    @property
    def success(self) -> float:
        answered = len(self.calls.seconds)
        return answered / max(answered + self.calls.failures.total(), 1)

    def row(self, name: str) -> tuple[str, ...]:
        quantiles = (f"{self.calls.quantile(q):.1f}" for q in (0.5, 0.99, 1.0))
        return (name, str(len(self.calls.seconds)), *quantiles, f"{self.success:.3%}")


def key_settings(*, forwards: bool) -> str:
    """Returns the keys of a service. Of the encoder's, the classifier's forwards its callers."""
    text = ""
    for key in KEYS:
        digest = hashlib.sha256(key.encode()).hexdigest()
        text += f'[[auth.keys]]\nname = "{key}"\nsha256 = "{digest}"\n'
        text += "forwards_callers = true\n" if forwards and key == "classifier" else ""
    return text


def start(folder: Path, *, tls: bool) -> abused.Pair:
    certificate = self_signed(folder) if tls else None
    encoder = abused.start(
        folder,
        "encoder-svc",
        f'listen = "{{grpc}}"\n[http]\nlisten = "{{http}}"\n{key_settings(forwards=True)}',
        certificate,
    )
    scheme, authority = ("https", f'[encoder.tls]\nca = "{certificate.certificate}"\n') if certificate else ("http", "")
    classifier = abused.start(
        folder,
        "classifier-svc",
        f'listen = "{{grpc}}"\n[rest]\nlisten = "{{http}}"\n[encoder]\nurl = "{scheme}://{encoder.grpc}"\napi_key = "classifier"\n'
        f"{authority}{key_settings(forwards=False)}",
        certificate,
    )
    return abused.Pair(encoder, classifier)


async def attack(pair: abused.Pair, name: str, seconds: float) -> asyncio.subprocess.Process:
    """Starts an attack with the hostile key in a process of its own, so that it does not delay the polite caller's clock."""
    command = [sys.executable, str(ROOT / "tests" / "abuse" / "attacks.py"), name, "--key", "hostile", "--seconds", str(seconds)]
    for service, of_pair in zip(("encoder", "classifier"), pair.both(), strict=True):
        command += [f"--{service}-grpc", of_pair.grpc, f"--{service}-http", of_pair.http]
    if pair.encoder.tls:
        command += ["--certificate", str(pair.encoder.tls.certificate)]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)


async def soak(options: argparse.Namespace) -> int:
    names = options.attacks.split(",") if options.attacks else [*ATTACKS]
    alone, beside = Figures(), {name: Figures() for name in names}
    most: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        pair = start(Path(folder), tls=options.tls)
        try:
            client = Polite(pair.classifier, "polite")
            await client.closed(4, 3)
            capacity = await client.closed(8, options.capacity_seconds)
            rate = capacity * options.load
            # A third of the time alone, the rest beside the attacks, each in two turns.
            turn = options.seconds / (len(names) * 2 * 1.5)
            print(f"capacity {capacity:.0f} calls per second; the polite caller makes {rate:.0f}; turns of {turn:.1f} s", file=sys.stderr)

            # The attacks open at most a thousand connections at once.
            bounds = {service.log.stem: service.resident() + growth_bound(service, 1_200) for service in pair.both()}

            def on_progress(_: float) -> None:
                for service in pair.both():
                    most[service.log.stem] = max(most[service.log.stem], service.resident())

            for name in names * 2:
                await client.open(rate, turn / 2, on_progress)
                alone.add(client.minutes)
                attacker = await attack(pair, name, turn + 1)
                # Until the attack has opened its connections.
                await asyncio.sleep(1)
                await client.open(rate, turn, on_progress)
                beside[name].add(client.minutes)
                try:
                    await asyncio.wait_for(attacker.wait(), 3)
                except TimeoutError:
                    attacker.kill()
                    await attacker.wait()
                print(f"{name}: {beside[name].row(name)[1:]}", file=sys.stderr)
                # The queues must be empty before the polite caller is measured alone.
                await asyncio.sleep(1)
            await client.channel.close()
            panics = [service.log.stem for service in pair.both() if service.process.poll() is not None or service.lines("panicked")]
            logs = {service.log.stem: service.tail() for service in pair.both()} if panics else {}
        finally:
            for service in pair.both():
                abused.kill(service)
    together = Figures()
    for figures in beside.values():
        together.add([figures.calls])
    rows = [alone.row("alone"), together.row("beside all attacks"), *(figures.row(name) for name, figures in beside.items())]
    print(table(rows, ("the polite caller", "answered", "p50, ms", "p99, ms", "slowest, ms", "succeeded")))
    print("\n" + ", ".join(f"{name}: at most {resident / MIB:.0f} MiB, bound {bounds[name] / MIB:.0f}" for name, resident in most.items()))
    failures = together.calls.failures
    if failures:
        print(table([(str(count), what) for what, count in failures.most_common(10)], ("failed calls", "with")))
    ratio = together.calls.quantile(0.99) / alone.calls.quantile(0.99)
    print(f"\nsuccess rate {together.success:.3%} (at least {SUCCESS:.1%}), p99 {ratio:.2f} times of that alone (at most {P99_RATIO:g})")
    options.output.parent.mkdir(exist_ok=True)
    figures = {"rate": rate, "success": together.success, "p99_ratio": ratio, "resident": most, "rows": rows}
    options.output.write_text(json.dumps(figures) + "\n")
    grown = [name for name, resident in most.items() if resident >= bounds[name]]
    for name in panics:
        print(f"{name} panicked or ended: {logs[name]}", file=sys.stderr)
    return 1 if panics or grown or together.success < SUCCESS or ratio > P99_RATIO else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="seconds of all rounds together")
    parser.add_argument("--load", type=float, default=0.2, help="the polite caller's fraction of the capacity, which is measured first")
    parser.add_argument("--capacity-seconds", type=float, default=10, help="seconds to measure the capacity")
    parser.add_argument("--attacks", help=f"names separated by commas; default: {','.join(ATTACKS)}")
    parser.add_argument("--tls", action="store_true", help="both services over TLS")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results" / "soak-hostile.json", help="file for the figures")
    begin = time.monotonic()
    code = asyncio.run(soak(parser.parse_args()))
    print(f"{(time.monotonic() - begin) / 60:.1f} minutes", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
