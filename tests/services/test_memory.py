"""The memory that the encoder takes while it loads a bundle."""

from __future__ import annotations

from pathlib import Path

from conftest import free_port, start, stop, wait_until_serving
from proc import status

BUNDLE = Path(".runtime/bundles/minilm-512-fp32")


def test_loading_single_precision_takes_little_more_memory_than_serving() -> None:
    address = f"127.0.0.1:{free_port()}"
    process = start("encoder-svc", "serve", "--listen", address, "--http-listen", "", "--bundle", str(BUNDLE))
    try:
        wait_until_serving(address, process)
        peak = status(process.pid, "VmHWM") * 1024
    finally:
        stop(process)
    # The weights, and two thirds of them a second time in the order of the products. Before weights were read one by one,
    # the peak was 3.6 times the weights.
    weights = (BUNDLE / "model.onnx").stat().st_size
    assert peak < 2.6 * weights, f"{peak / 2**20:.0f} MiB for weights of {weights / 2**20:.0f} MiB"
