"""Compares the services with other servers of text embeddings on the same weights, texts and cores.

In turns, each peer is started on a free port of 127.0.0.1, measured for a few phases of the same length, and stopped: one text
alone, bulk, load at a share of its own capacity, and twice that capacity. Figures go to a JSON file after each turn, and a turn
that is in the file is not measured again. Peers that are not installed are left out. `make bench-peers` installs all but
text-embeddings-inference, which takes part if TEI_ROUTER names its program. All run on the cores that this program may use, with
it, so `taskset` chooses them.

examples:
  make bench-peers
  make bench-peers DATA=movies_metadata.csv TEI_ROUTER=text-embeddings-router
  PYTHONPATH=tools:encoder-svc .runtime/venv/bin/python -m peers --only ours-int8,infinity --turns 1 --fresh
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from export.adapt.data import DataError

from . import machine, report
from .accuracy import Task
from .catalogue import Peer, Places, catalogue
from .measure import PeerError, Plan, measure
from .model_folder import write_model_folder
from .texts import invented

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = ROOT / "models" / "minilm-512-adapter.safetensors"
MODEL = ROOT / "models" / "default.safetensors"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--binaries", type=Path, default=ROOT / "target" / "release", help="folder of encoder-svc and classifier-svc"
    )
    parser.add_argument("--runtime", type=Path, default=ROOT / ".runtime", help="folder of ONNX Runtime and the bundles")
    parser.add_argument(
        "--environments", type=Path, default=ROOT / ".runtime" / "peers", help="folder of the peers' environments"
    )
    parser.add_argument(
        "--tei", type=Path, metavar="PROGRAM", help="the program of text-embeddings-inference, text-embeddings-router"
    )
    parser.add_argument(
        "--data", type=Path, metavar="CSV", help="movies_metadata.csv, to measure micro-F1; otherwise that is left out"
    )
    parser.add_argument("--movies", type=int, default=300, metavar="N", help="test movies for micro-F1; default: 300")
    parser.add_argument("--only", metavar="NAME,...", help="only these peers")
    parser.add_argument("--turns", type=int, default=2, metavar="N", help="how often each peer is measured; default: 2")
    parser.add_argument("--seconds", type=float, default=6.0, metavar="S", help="length of a phase; default: 6")
    parser.add_argument("--texts", type=int, default=2000, metavar="N", help="different texts, at least 32; default: 2000")
    parser.add_argument("--load", type=float, default=0.7, metavar="SHARE", help="load as a share of the capacity; default: 0.7")
    parser.add_argument("--deadline", type=float, default=1.0, metavar="S", help="deadline of a call under load; default: 1")
    parser.add_argument("--quick", action="store_true", help="one turn with short phases, to check that everything works")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in the output file")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "bench-results" / "peers.json", metavar="FILE", help="file of the figures"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.turns, options.seconds, options.texts, options.movies = 1, 0.3, 64, 20
    if options.texts < 32 or options.turns < 1 or not 0 < options.load <= 1 or min(options.seconds, options.deadline) <= 0:
        parser.error("expected 32 texts or more, one turn or more, a load over 0 and up to 1, and positive times")
    return options


def chosen(peers: Sequence[Peer], only: str | None) -> list[Peer]:
    """Returns the peers to measure. Raises PeerError if `only` names one that does not exist or is not installed."""
    if only:
        names = only.split(",")
        if unknown := set(names) - {peer.name for peer in peers}:
            raise PeerError(f"expected peers among {', '.join(peer.name for peer in peers)}, found {', '.join(sorted(unknown))}")
        peers = [peer for peer in peers if peer.name in names]
        for peer in peers:
            if missing := peer.missing():
                raise PeerError(f"{peer.name}: expected {missing}, found no such file; run `make bench-peers`")
        return list(peers)
    for peer in peers:
        if missing := peer.missing():
            print(f"{peer.name} is left out: {missing} does not exist")
    return [peer for peer in peers if not peer.missing()]


def planned(options: argparse.Namespace) -> Plan:
    return Plan(
        texts=tuple(invented(options.texts)),
        seconds=options.seconds,
        load=options.load,
        overload=2.0,
        deadline=options.deadline,
        compared=min(64, options.texts // 4),
        reference=options.runtime / "bundles" / "minilm-512-fp32",
        task=Task.read(options.data, MODEL, options.movies) if options.data else None,
        logs=options.output.parent / "peers-logs",
    )


def run(options: argparse.Namespace, peers: Sequence[Peer]) -> int:
    """Measures what is not measured yet and prints the table. Returns the number of peers that failed."""
    plan = planned(options)
    description = machine.describe()
    settings = {
        "texts": options.texts,
        "seconds": options.seconds,
        "load": options.load,
        "deadline": options.deadline,
        "movies": len(plan.task.movies) if plan.task else 0,
        "processor": description["processor"],
        "cores": description["cores"],
    }
    results = report.Results(options.output, settings, fresh=options.fresh)
    begin = time.monotonic()
    failed: set[str] = set()
    if done := [peer.name for peer in peers if results.has(peer.name, 0)]:
        print(f"{options.output} has figures of {', '.join(done)}; --fresh measures everything again")
    for turn in range(options.turns):
        for peer in peers:
            if results.has(peer.name, turn) or peer.name in failed:
                continue

            def say(phase: str, peer: Peer = peer, turn: int = turn) -> None:
                took = time.monotonic() - begin
                print(f"{took:4.0f} s  turn {turn + 1} of {options.turns}  {peer.name}: {phase}", flush=True)

            say("start")
            try:
                figures = measure(peer, plan, say, accuracy=turn == 0)
            except PeerError as error:
                print(f"error: {error}", file=sys.stderr)
                failed.add(peer.name)
                continue
            results.add(peer.name, turn, machine.describe(), peer.what, figures)
    print(f"\n{description}\n\n{report.table(results, [peer.name for peer in peers])}\n\nwrote {options.output}")
    return len(failed)


def main() -> int:
    options = parsed(None)
    # A signal becomes an exception, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Another adapter is another model.
    digest = hashlib.sha256(ADAPTER.read_bytes()).hexdigest()[:12]
    model = options.environments / f"model-{digest}"
    try:
        if options.environments.is_dir() and not model.is_dir():
            write_model_folder(model, ADAPTER)
        places = Places(options.binaries, options.runtime.resolve(), options.environments, model, options.tei)
        return min(run(options, chosen(catalogue(places), options.only)), 1)
    except (PeerError, report.ResultsError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
