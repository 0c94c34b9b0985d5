"""Applies the rules of a text graph with TensorFlow's operations, and writes them as the service's tokenizer file.

The service's tokenizer applies them in Rust (encoder-svc/src/tokenizer). Here the rules are checked against the original
graph before a bundle is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.use_large.text_graph import TextRules

# The name of this kind of tokenizer in the manifest.
KIND = "vocabulary"


@dataclass(frozen=True)
class TokenizedText:
    """All tokens of a text, with their inputs to the numeric graph."""

    tokens: list[bytes]
    ids: NDArray[np.int64]
    buckets: NDArray[np.int64]


def tokenize(rules: TextRules, text: str) -> TokenizedText:
    """Splits `text` into tokens according to the rules."""
    texts = tf.constant([text])
    for step in rules.steps:
        texts = _step(step, texts)
    tokens = _split(rules.split, texts).numpy().tolist()
    ids = np.array([rules.vocabulary.get(token, rules.default_id) for token in tokens], np.int64)
    if not tokens:
        return TokenizedText([], ids, ids)
    return TokenizedText(tokens, ids, tf.strings.to_hash_bucket_fast(tokens, rules.hash_buckets).numpy())


def _step(step: dict[str, Any], texts: tf.Tensor) -> tf.Tensor:
    match step["step"]:
        case "replace":
            return tf.strings.regex_replace(texts, step["pattern"], step["rewrite"], replace_global=step["all"])
        case "lower":
            return tf.strings.lower(texts, encoding="utf-8" if step["unicode"] else "")
        case "strip":
            return tf.strings.strip(texts)
        case "join":
            return tf.strings.join([step["before"], texts, step["after"]])
        case other:
            raise ValueError(f"expected a known step, found {other!r}")


def _split(split: dict[str, Any], texts: tf.Tensor) -> tf.Tensor:
    match split["by"]:
        case "any_of":
            return tf.raw_ops.StringSplit(
                input=texts, delimiter=split["separators"], skip_empty=split["skip_empty"]
            ).values
        case "string":
            return tf.raw_ops.StringSplitV2(input=texts, sep=split["separator"], maxsplit=-1).values
        case "blanks":
            return tf.raw_ops.StringSplitV2(input=texts, sep="", maxsplit=-1).values
        case other:
            raise ValueError(f"expected a known split, found {other!r}")


def tokenizer_bytes(rules: TextRules) -> bytes:
    """Returns `tokenizer.json`. It omits words that are not UTF-8, because no text contains them."""
    vocabulary = {}
    for word, number in sorted(rules.vocabulary.items(), key=lambda entry: (entry[1], entry[0])):
        try:
            vocabulary[word.decode()] = number
        except UnicodeDecodeError:
            continue
    document = {
        "steps": rules.steps,
        "split": rules.split,
        "default_id": rules.default_id,
        "hash_buckets": rules.hash_buckets,
        "vocabulary": vocabulary,
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
