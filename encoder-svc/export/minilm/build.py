"""Builds a bundle from weights and a tokenizer, for the real encoder and for the tiny ones of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.bundle import BundleContents, ReferenceText, write_bundle
from export.minilm import forward, graph, graph_int8
from export.minilm.adapter import MergedEncoder
from export.minilm.weights import EncoderShape
from export.minilm.wordpiece import tokenize
from export.precision import BOUNDS, Bound, Precision
from export.reference_texts import REFERENCE_TEXTS

DECIMALS = 7
# Float64 results of two processors differ by less than 1e-15. A value this close to a rounding boundary could round
# either way and change the fingerprint, so the build rejects a text that gives one.
ROUNDING_MARGIN = 1e-13
GRAPH_WRITERS = {Precision.FP32: graph.write_graph, Precision.INT8: graph_int8.write_graph}


class BuildError(Exception):
    """The bundle cannot be built, or the graph disagrees with the reference."""


@dataclass(frozen=True)
class EncoderSource:
    """The input of a bundle."""

    encoder_id: str
    precision: Precision
    licence: str
    shape: EncoderShape
    encoder: MergedEncoder
    tokenizer: bytes
    max_tokens: int

    @property
    def description(self) -> str:
        """The encoder's description, with the precision unless it is FP32."""
        words = self.encoder.description
        return words if self.precision is Precision.FP32 else f"{words}, {self.precision}"


@dataclass(frozen=True)
class BuildReport:
    """The fingerprint, and the largest `distance` of the graph from the float64 reference."""

    fingerprint: str
    bound: Bound
    largest_distance: float

    def __str__(self) -> str:
        found = f"difference {self.largest_distance:.1e}"
        if self.bound.key == "min_cosine":
            found = f"cosine {1 - self.largest_distance:.4f}"
        return f"fingerprint {self.fingerprint}, {found} to the float64 reference (worst text)"


def build_bundle(source: EncoderSource, folder: Path) -> BuildReport:
    """Writes the bundle at `folder`. Raises BuildError and writes nothing if the graph strays from the reference."""
    if not 2 <= source.max_tokens <= source.shape.positions:
        raise BuildError(f"expected max_tokens from 2 to {source.shape.positions}, found {source.max_tokens}")
    tokenizer = Tokenizer.from_str(source.tokenizer.decode())
    model = GRAPH_WRITERS[source.precision](source.encoder, source.shape, source.encoder_id)
    session = open_session(model)
    bound = BOUNDS[source.precision]
    reference = []
    largest_distance = 0.0
    for text in REFERENCE_TEXTS:
        tokens = tokenize(tokenizer, text, source.max_tokens)
        expected = forward.embed(source.encoder, source.shape, tokens.ids)
        found = run_session(session, [tokens.ids])[0]
        largest_distance = max(largest_distance, distance(bound, found, expected))
        reference.append(ReferenceText(text, len(tokens.ids), tokens.truncated, rounded(expected)))
    # Half of the bound, so that a processor that rounds differently still passes.
    allowed = (1 - bound.limit if bound.key == "min_cosine" else bound.limit) / 2
    if largest_distance > allowed:
        raise BuildError(
            f"expected the graph within {allowed:.1e} of the float64 reference, found {largest_distance:.2e}"
        )
    contents = BundleContents(
        encoder_id=source.encoder_id,
        version=source.encoder.version,
        description=source.description,
        licence=source.licence,
        max_tokens=source.max_tokens,
        model=model,
        tokenizer=source.tokenizer,
        reference=reference,
        reference_bound=bound,
    )
    return BuildReport(write_bundle(folder, contents), bound, largest_distance)


def distance(bound: Bound, found: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    """Returns the distance of two vectors `[512]`: their largest difference, or 1 - cosine, depending on the bound."""
    if bound.key == "min_cosine":
        wide = found.astype(np.float64)
        return float(1 - (wide @ expected) / np.sqrt((wide @ wide) * (expected @ expected)))
    return float(np.abs(found - expected).max())


def rounded(vector: NDArray[np.float64]) -> list[float]:
    """Rounds `vector` to 7 decimals. Raises BuildError if a value could round differently on another processor."""
    scaled = vector * 10**DECIMALS
    margin = float(np.abs(scaled - np.floor(scaled) - 0.5).min()) / 10**DECIMALS
    if margin < ROUNDING_MARGIN:
        raise BuildError(
            f"expected every value {ROUNDING_MARGIN} or more from a rounding boundary, found {margin:.1e}; "
            "change the reference text"
        )
    # Adding zero turns -0.0 into 0.0.
    return [round(float(value), DECIMALS) + 0.0 for value in vector]


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Opens the graph on one thread, as the service runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, batch: list[list[int]]) -> NDArray[np.float32]:
    """Returns the vectors `[batch, 512]` of token ids. Shorter texts are padded with id 0 and masked."""
    longest = max(len(ids) for ids in batch)
    ids = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros((len(batch), longest), dtype=np.int64)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    (embedding,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
    return embedding
