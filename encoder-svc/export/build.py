"""From weights and a tokenizer to a bundle: one path for the real encoder and for the tiny ones that tests use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

import minilm_forward
from adapter import MergedEncoder
from bundle import TOLERANCE, BundleContents, ReferenceText, write_bundle
from minilm_onnx import write_graph
from minilm_weights import EncoderShape
from reference_texts import REFERENCE_TEXTS
from wordpiece import tokenize

DECIMALS = 7
# Float64 results of two processors differ by less than 1e-15. A value this near to a rounding boundary could round to
# either side of it and change the fingerprint, so the export refuses the text that gives one.
ROUNDING_MARGIN = 1e-13


class BuildError(Exception):
    """The bundle cannot be made, or the graph does not give what the reference does."""


@dataclass(frozen=True)
class EncoderSource:
    """What a bundle is made from."""

    encoder_id: str
    licence: str
    shape: EncoderShape
    encoder: MergedEncoder
    tokenizer: bytes
    max_tokens: int


@dataclass(frozen=True)
class BuildReport:
    """The fingerprint, and the largest difference of any number between the graph and the float64 reference."""

    fingerprint: str
    largest_difference: float


def build_bundle(source: EncoderSource, folder: Path) -> BuildReport:
    """Writes the bundle at `folder`. Raises BuildError, writing nothing, when the graph strays from the reference."""
    if not 2 <= source.max_tokens <= source.shape.positions:
        raise BuildError(f"expected max_tokens from 2 to {source.shape.positions}, found {source.max_tokens}")
    tokenizer = Tokenizer.from_str(source.tokenizer.decode())
    model = write_graph(source.encoder, source.shape, source.encoder_id)
    session = open_session(model)
    reference = []
    largest_difference = 0.0
    for text in REFERENCE_TEXTS:
        tokens = tokenize(tokenizer, text, source.max_tokens)
        expected = minilm_forward.embed(source.encoder, source.shape, tokens.ids)
        found = run_session(session, [tokens.ids])[0]
        largest_difference = max(largest_difference, float(np.abs(found - expected).max()))
        reference.append(ReferenceText(text, len(tokens.ids), tokens.truncated, rounded(expected)))
    # Half the tolerance, so that a processor with other float32 rounding still passes.
    if largest_difference > TOLERANCE / 2:
        raise BuildError(
            f"expected the graph within {TOLERANCE / 2} of the float64 reference, found {largest_difference:.2e}"
        )
    contents = BundleContents(
        encoder_id=source.encoder_id,
        version=source.encoder.version,
        description=source.encoder.description,
        licence=source.licence,
        max_tokens=source.max_tokens,
        model=model,
        tokenizer=source.tokenizer,
        reference=reference,
    )
    return BuildReport(write_bundle(folder, contents), largest_difference)


def rounded(vector: NDArray[np.float64]) -> list[float]:
    """`vector` at 7 decimals. Raises BuildError when a value could round differently on another processor."""
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
    """The graph on one thread, as the service runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, batch: list[list[int]]) -> NDArray[np.float32]:
    """Vectors `[batch, 512]` of token ids; shorter texts are padded with id 0 under a zero mask."""
    longest = max(len(ids) for ids in batch)
    ids = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros((len(batch), longest), dtype=np.int64)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    (embedding,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
    return embedding
