"""Converts Universal Sentence Encoder large (Cer et al., 2018, arXiv:1803.11175) to an encoder bundle.

The input is the downloaded TensorFlow 2 SavedModel, as a folder or an archive
(tfhub.dev/google/universal-sentence-encoder-large/5, at Kaggle google/universal-sentence-encoder/tensorFlow2/large/2).
Its graph handles texts itself. The converter extracts that part as rules, which the service applies, and converts the
rest to ONNX. It compares the result with TensorFlow before it writes anything.

The bundle's reference vectors come from TensorFlow, whose last bits differ between processors. So unlike minilm-512, the
bundle gets a different fingerprint on each machine. Convert once and copy the folder.

It needs a separate environment: pip install --no-deps --require-hashes -r requirements-use.txt

examples:
  python -m export.use_large --saved-model archive.tar.gz --output bundles/use-large-5
  python -m export.use_large --saved-model universal-sentence-encoder-large_5 --output bundles/use-large-5 --max-tokens 1024
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import onnx
import onnxruntime
import tf2onnx
from numpy.typing import NDArray

from export.bundle import BundleContents, ReferenceText, write_bundle
from export.precision import Bound
from export.reference_texts import REFERENCE_TEXTS
from export.use_large.canonical_graph import canonical
from export.use_large.heavy_constants import put_back, set_aside
from export.use_large.reference import TensorFlowError, tensorflow_vectors
from export.use_large.saved_model import SavedModelError, freeze, opened, signature
from export.use_large.text_graph import (
    HASH_BUCKETS,
    ROW_SPLITS,
    TOKEN_IDS,
    NumericGraph,
    TextGraphError,
    TextRules,
    without_strings,
)
from export.use_large.text_rules import KIND, TokenizedText, tokenize, tokenizer_bytes

ENCODER_ID = "use-large-5"
OPSET = 17
EMBEDDING = "embedding"
# The accepted distance from TensorFlow. The converter requires half of it, so a processor that rounds differently passes.
BOUND = Bound("tolerance", 1e-5)
MOST_TOKENS = 65_536
# Texts that this kind of tokenizer can get wrong, in addition to those of every bundle.
TEXTS = (
    # No token at all.
    "",
    " \t\n",
    # Whitespace that RE2's \s matches, and some that it does not (a vertical tab, a no-break space).
    "rain\tstorm\r\nriver\x0bsea\u00a0island  ",
    # No token of any vocabulary.
    "xqzvwk brrgnl ßþðæø 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﷽ \u200b",
    # Tokens longer than a block of the hash.
    "a" * 63 + " " + "b" * 64 + " " + "c" * 65 + " " + "d" * 128 + " " + "é" * 128,
    # All kinds of punctuation, single and repeated.
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ?!... ---- it's they've 1,000.50 «…» ¿¡",
    # Case.
    "THE Lighthouse keeper's RADIO İstanbul ΣΊΣΥΦΟΣ",
)

LONG = "a storm at sea and a lighthouse keeper who hears the voice of her brother in the rain of a long night"


class UseLargeError(Exception):
    """The model cannot be converted. The message says what was expected and what was found."""


@dataclass(frozen=True)
class Encoder:
    """The description of the bundle in its manifest."""

    encoder_id: str
    version: str
    description: str
    licence: str
    max_tokens: int


@dataclass(frozen=True)
class UseReport:
    """The fingerprint, the sizes of vocabulary and hash table, and the largest difference from TensorFlow."""

    fingerprint: str
    words: int
    hash_buckets: int
    largest_difference: float

    def __str__(self) -> str:
        sizes = f"{self.words} words and {self.hash_buckets} hash buckets"
        return f"fingerprint {self.fingerprint}, {sizes}, {self.largest_difference:.1e} from TensorFlow at most"


def build(saved_model: Path, encoder: Encoder, output: Path) -> UseReport:
    """Writes the bundle at `output`. Raises UseLargeError and writes nothing if the model is not as expected."""
    try:
        with opened(saved_model) as folder:
            return _build(folder, encoder, output)
    except (SavedModelError, TextGraphError, TensorFlowError) as error:
        raise UseLargeError(str(error)) from error


def _build(folder: Path, encoder: Encoder, output: Path) -> UseReport:
    way_in = signature(folder)
    model = freeze(folder, way_in)
    graph = without_strings(model.graph_def, model.output, model.tables)
    del model
    onnx_bytes = to_onnx(graph, encoder.encoder_id)
    # A text that is truncated, whatever `max_tokens` is.
    longest = " ".join(itertools.islice(itertools.cycle(LONG.split()), encoder.max_tokens + 10))
    texts = (*REFERENCE_TEXTS, *TEXTS, longest)
    reference = [_reference(graph.rules, text, encoder.max_tokens) for text in texts]
    expected = tensorflow_vectors(folder, way_in.name, [read for _, read, _ in reference])
    session = open_session(onnx_bytes)
    found = np.stack([run_session(session, tokens, encoder.max_tokens) for _, _, tokens in reference])
    difference = float(np.abs(found - expected).max())
    if not difference <= BOUND.limit / 2:
        raise UseLargeError(
            f"expected the converted graph within {BOUND.limit / 2:.1e} of TensorFlow, found {difference:.2e}"
        )
    entries = [
        ReferenceText(
            text=text,
            token_count=min(len(tokens.tokens), encoder.max_tokens),
            truncated=len(tokens.tokens) > encoder.max_tokens,
            vector=[round(float(value), 9) + 0.0 for value in vector],
        )
        for (text, _, tokens), vector in zip(reference, expected, strict=True)
    ]
    contents = BundleContents(
        encoder_id=encoder.encoder_id,
        version=encoder.version,
        description=encoder.description,
        licence=encoder.licence,
        max_tokens=encoder.max_tokens,
        model=onnx_bytes,
        tokenizer=tokenizer_bytes(graph.rules),
        reference=entries,
        reference_bound=BOUND,
        tokenizer_kind=KIND,
        inputs={"ids": TOKEN_IDS, "hash_buckets": HASH_BUCKETS, "row_splits": ROW_SPLITS},
    )
    fingerprint = write_bundle(output, contents)
    return UseReport(fingerprint, len(graph.rules.vocabulary), graph.rules.hash_buckets, difference)


def to_onnx(graph: NumericGraph, name: str) -> bytes:
    """Returns the numeric graph as ONNX, with the three inputs of text_graph.py and the output `embedding`."""
    for library in ("tf2onnx", "tensorflow"):
        logging.getLogger(library).setLevel(logging.ERROR)
    inputs = (TOKEN_IDS, HASH_BUCKETS, ROW_SPLITS)
    light = set_aside(graph.graph_def)
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            light.graph_def,
            name=name,
            input_names=[*(f"{tensor}:0" for tensor in inputs), *light.constants],
            output_names=[graph.output],
            opset=OPSET,
            tensors_to_rename={f"{tensor}:0": tensor for tensor in inputs} | {graph.output: EMBEDDING},
        )
    except (ValueError, RuntimeError, KeyError) as error:
        raise UseLargeError(f"expected a graph that tf2onnx {tf2onnx.__version__} converts, found: {error}") from error
    others = (node for node in model.graph.node if node.domain not in ("", "ai.onnx"))
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in others})
    if foreign:
        raise UseLargeError(f"expected standard ONNX operators only, found {', '.join(foreign)}")
    put_back(model, light.constants)
    model = canonical(model)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _reference(rules: TextRules, text: str, max_tokens: int) -> tuple[str, str, TokenizedText]:
    """Returns the text, the part of it that the service reads, and all its tokens.

    The service truncates a text after `max_tokens`, but TensorFlow's graph does not. So TensorFlow gets the beginning of
    the text that has exactly the kept tokens.
    """
    tokens = tokenize(rules, text)
    if len(tokens.tokens) <= max_tokens:
        return text, text, tokens
    kept = tokens.tokens[:max_tokens]
    for end in (i for i in range(len(text), 0, -1) if text[i - 1] == " "):
        if tokenize(rules, text[: end - 1]).tokens == kept:
            return text, text[: end - 1], tokens
    raise UseLargeError(f"expected a beginning of {text[:30]!r} with {max_tokens} tokens, found none")


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Opens the graph on one thread, as the service runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(
    session: onnxruntime.InferenceSession, tokens: TokenizedText, max_tokens: int
) -> NDArray[np.float32]:
    """Returns the vector `[512]` of a text's first `max_tokens` tokens."""
    ids, buckets = tokens.ids[:max_tokens], tokens.buckets[:max_tokens]
    feeds = {TOKEN_IDS: ids, HASH_BUCKETS: buckets, ROW_SPLITS: np.array([0, len(ids)], np.int64)}
    (vectors,) = session.run([EMBEDDING], feeds)
    if vectors.shape != (1, 512):
        raise UseLargeError(f"expected a vector of 512 floats, found the shape {vectors.shape}")
    return vectors[0]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m export.use_large", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--saved-model", type=Path, required=True, metavar="PATH", help="the SavedModel's folder, or a tar or zip archive of it"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the bundle's folder; an existing one is replaced")
    parser.add_argument(
        "--max-tokens", type=int, default=1024, metavar="N", help="longest text in tokens; default: 1024"
    )
    arguments = parser.parse_args()
    if not 8 <= arguments.max_tokens <= MOST_TOKENS:
        parser.error(f"expected --max-tokens from 8 to {MOST_TOKENS}, found {arguments.max_tokens}")
    encoder = Encoder(
        encoder_id=ENCODER_ID,
        version="5",
        description="Universal Sentence Encoder large v5 by Google, converted from its TensorFlow SavedModel",
        licence="Apache-2.0",
        max_tokens=arguments.max_tokens,
    )
    started = time.monotonic()
    try:
        report = build(arguments.saved_model, encoder, arguments.output.resolve())
    except UseLargeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{ENCODER_ID}: {report}, {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
