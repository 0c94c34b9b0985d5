"""Compares `ModelInfer` with `Encode` on the same texts, in turns in one run.

    BINARIES=target/release .runtime/protocols-venv/bin/python tests/protocols/compare_cost.py

Prints the median of the ratios of neighbouring calls, and the ratio of the processor time that the encoder took.
"""

from __future__ import annotations

import os
import statistics
import struct
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import channel_to, free_port, start, stop, wait_until_serving  # noqa: E402
from reflection import ReflectionClient  # noqa: E402

TEXTS = [f"movie {index}: a storm at sea, and a captain who does not believe in storms. " * (1 + index % 4) for index in range(32)]
ENCODER = "movieclassifier.encoder.v1.EncoderService"
BULK = 2
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> None:
    rounds = int(os.environ.get("ROUNDS", "200"))
    # Bulk texts are not cached, so every call runs the graph; online ones are, so every call is nothing but the protocol.
    priority = int(os.environ.get("PRIORITY", str(BULK)))
    address = f"127.0.0.1:{free_port()}"
    process = start("encoder-svc", "serve", "--listen", address, "--http-listen", "")
    try:
        wait_until_serving(address, process)
        with channel_to(address, None) as channel:
            client = ReflectionClient(channel)
            raw = b"".join(struct.pack("<I", len(text)) + text.encode() for text in TEXTS)
            infer: dict[str, Any] = {
                "model_name": client.call(ENCODER, "GetEncoder").id,
                "inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [len(TEXTS)]}],
                "raw_input_contents": [raw],
                "parameters": {},
            }
            calls = []
            for service, method, fields in (
                (ENCODER, "Encode", {"texts": TEXTS, "priority": priority}),
                ("inference.GRPCInferenceService", "ModelInfer", infer),
            ):
                path, request_class, _ = client.method(service, method)
                request = request_class(**fields)
                if method == "ModelInfer":
                    request.parameters["priority"].int64_param = priority
                # The replies are not decoded, because the client's time is not the service's.
                calls.append((channel.unary_unary(path), request.SerializeToString()))
            for call, message in calls * 3:
                call(message, timeout=60)
            seconds: list[list[float]] = [[], []]
            processor = [0.0, 0.0]
            for index in range(rounds):
                for which in (0, 1) if index % 2 else (1, 0):
                    call, message = calls[which]
                    busy, begin = processor_seconds(process.pid), time.perf_counter()
                    call(message, timeout=60)
                    seconds[which].append(time.perf_counter() - begin)
                    processor[which] += processor_seconds(process.pid) - busy
        ratios = [infer / encode for encode, infer in zip(*seconds, strict=True)]
        print(f"{rounds} calls each of {len(TEXTS)} texts; Encode {statistics.median(seconds[0]) * 1e3:.2f} ms (median)")
        print(f"ModelInfer / Encode: {statistics.median(ratios):.4f} (median of the ratios of neighbours)")
        print(f"processor time: {processor[1] / max(processor[0], 1e-9):.4f} ({processor[0]:.2f} s, {processor[1]:.2f} s)")
    finally:
        stop(process)


if __name__ == "__main__":
    main()
