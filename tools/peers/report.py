"""The file of figures, which lets an interrupted run go on, and the table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

VERSION = 1


class ResultsError(Exception):
    """The file of figures is of another measurement."""


class Results:
    """The turns that were measured, written after each."""

    def __init__(self, path: Path, settings: dict[str, Any], *, fresh: bool) -> None:
        """Reads an existing file unless `fresh`. Raises ResultsError if it has other settings, since the figures would not mix."""
        self._path = path
        self.content: dict[str, Any] = {"version": VERSION, "settings": settings, "turns": []}
        if fresh or not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            different = [key for key in settings if found["settings"].get(key) != settings[key]]
            if found["version"] != VERSION:
                different = ["version"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultsError(f"{path}: expected figures of this benchmark, found something else; use --fresh") from error
        if different:
            raise ResultsError(f"{path}: has figures with another value of {', '.join(different)}; use --fresh or --output")
        self.content = found

    def has(self, peer: str, turn: int) -> bool:
        return any(one["peer"] == peer and one["turn"] == turn for one in self.content["turns"])

    def add(self, peer: str, turn: int, machine: dict[str, Any], what: str, figures: dict[str, Any]) -> None:
        """Records a turn and writes the file."""
        self.content["turns"].append({"peer": peer, "turn": turn, "what": what, "machine": machine, "figures": figures})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, self._path)

    def of(self, peer: str) -> list[dict[str, Any]]:
        """Returns the figures of a peer's turns."""
        return [one["figures"] for one in self.content["turns"] if one["peer"] == peer]


def middle(turns: Iterable[dict[str, Any]], name: str) -> float | None:
    """Returns the median of a figure over the turns that have it."""
    values = [turn[name] for turn in turns if turn.get(name) is not None]
    return median(values) if values else None


def number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


# Heading, figures and digits of each row.
ROWS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("texts/s in bulk, best way", ("bulk_texts_per_second",), 1),
    ("texts/s: 32 callers of one text; 4 of 32; one stream", tuple(f"bulk_{way}_texts_per_second" for way in ("single", "batch", "stream")), 1),
    ("CPU ms a text in bulk", ("bulk_cpu_ms_a_text",), 1),
    ("ms of one text alone, p50; p99", ("alone_p50_ms", "alone_p99_ms"), 1),
    ("ms under load, p50; p99", ("load_p50_ms", "load_p99_ms"), 1),
    ("under load, share served in time", ("load_served_share",), 3),
    ("at twice the capacity, served in time / capacity", ("overload_goodput_ratio",), 2),
    ("at twice the capacity, p99 ms of what is served", ("overload_p99_ms",), 0),
    ("at twice the capacity, share rejected; late; failed", ("overload_rejected_share", "overload_late_share", "overload_failed_share"), 2),
    ("at twice the capacity, p99 ms of a rejection", ("overload_rejection_p99_ms",), 0),
    ("memory, MiB: after load; peak", ("memory_mib", "memory_peak_mib"), 0),
    ("seconds to the first vector", ("ready_seconds",), 2),
    ("cosine to the fp32 graph, mean; worst", ("cosine_mean", "cosine_min"), 4),
    ("length over that of the fp32 graph's vector", ("length_ratio",), 3),
    ("micro-F1 of the default model", ("micro_f1",), 4),
)  # fmt: skip


def table(results: Results, peers: Sequence[str]) -> str:
    """Returns a Markdown table of the medians over all turns, one column a peer, and the ratios of bulk throughput."""
    peers = [peer for peer in peers if results.of(peer)]
    lines = [row(["", *peers]), row(["---"] * (len(peers) + 1))]
    for heading, names, digits in ROWS:
        cells = ["; ".join(filter(None, (number(middle(results.of(peer), name), digits) for name in names))) for peer in peers]
        if any(cells):
            lines.append(row([heading, *cells]))
    if len(peers) > 1:
        lines.append(row([f"texts/s of {peers[0]} over this one's", *(ratio(results, peers[0], peer) for peer in peers)]))
    others = [row_of_shares(results, peer) for peer in peers]
    lines.append(row(["share of the processors that other programs took in bulk; that were stolen", *others]))
    return "\n".join(lines)


def ratio(results: Results, first: str, peer: str) -> str:
    """Returns the ratio of the medians. Each turn has both, so a slow machine slows both."""
    ours, theirs = (middle(results.of(name), "bulk_texts_per_second") for name in (first, peer))
    return "" if ours is None or not theirs else f"{ours / theirs:.2f}"


def row_of_shares(results: Results, peer: str) -> str:
    shares = [
        value
        for turn in results.of(peer)
        for name, value in turn.items()
        if name.startswith("bulk_") and name.endswith("_shares")
    ]
    return "; ".join(number(middle(shares, kind), 2) for kind in ("others", "stolen"))


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
