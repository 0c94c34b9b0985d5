"""Makes a SavedModel with random weights and the operations of Universal Sentence Encoder large, and its bundle.

It replaces the real model, which tests cannot download, to check that the conversion and the service's tokenizer agree
with TensorFlow. Its structure follows the published operations and variables of the real encoder: punctuation regexes, a
join and a split of strings, a vocabulary table with buckets for other words, a filled row for an empty text, embeddings
in shards, a transformer (Vaswani et al., 2017, arXiv:1706.03762) whose states are summed and divided by the square root
of their number, and a 512-vector of length 1 (Cer et al., 2018, arXiv:1803.11175). Its vectors have no meaning.

examples:
  python -m export.use_large.stand_in --saved-model stand-in
  python -m export.use_large.stand_in --saved-model stand-in --bundle bundles/use-stand-in-512
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from export.use_large.convert import Encoder, UseLargeError, build
from export.use_large.stand_in_words import WORDS

DIMENSION = 512
MAX_TOKENS = 512
# Replacements like those of the real encoder's graph, in RE2 syntax: `\s` and [:punct:] are ASCII.
REGEXES = (
    (r"\s+", " "),
    (r"([[:punct:]])", r" \1 "),
    (r"(\d) *([.,]) *(\d{3}\b)", r"\1\2\3"),
    (r"(?i) ' *(s|t|re|ve|ll|d|m) ", r" '\1 "),
    (r"[^\S\n]*\. *\.[ .]*", " ... "),
)


@dataclass(frozen=True)
class Shape:
    """Sizes, and variants of the graph."""

    words: tuple[str, ...] = WORDS
    buckets: int = 61
    shards: int = 3
    embedding: int = 24
    hidden: int = 32
    heads: int = 4
    feed_forward: int = 64
    layers: int = 2
    lower: bool = False
    """Whether to lower-case texts and split them with StringSplitV2 on whitespace."""
    fill_strings: bool = False
    """Whether to fill an empty text with an empty word before the lookup instead of an id after it."""
    seed: int = 1


class StandIn(tf.Module):
    """Encodes texts `[n]` to vectors `[n, 512]`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        self._random = np.random.Generator(np.random.PCG64(shape.seed))
        rows = len(shape.words) + shape.buckets
        # Row r of the table is in shard r % shards: TensorFlow 1's "mod" strategy.
        self.embeddings = [
            self._variable(f"sharded_{i}", -(-(rows - i) // shape.shards), shape.embedding, width=1.0)
            for i in range(shape.shards)
        ]
        self.project = self._variable("project", shape.embedding, shape.hidden)
        self.blocks = [
            {
                "query": self._variable(f"query_{i}", shape.hidden, shape.hidden),
                "key": self._variable(f"key_{i}", shape.hidden, shape.hidden),
                "value": self._variable(f"value_{i}", shape.hidden, shape.hidden),
                "output": self._variable(f"output_{i}", shape.hidden, shape.hidden),
                "widen": self._variable(f"widen_{i}", shape.hidden, shape.feed_forward),
                "narrow": self._variable(f"narrow_{i}", shape.feed_forward, shape.hidden),
            }
            for i in range(shape.layers)
        ]
        self.dense = self._variable("dense", shape.hidden, DIMENSION)
        words = tf.constant(list(shape.words))
        ids = tf.range(len(shape.words), dtype=tf.int64)
        self.table = tf.lookup.StaticVocabularyTable(
            tf.lookup.KeyValueTensorInitializer(words, ids), num_oov_buckets=shape.buckets
        )

    def _variable(self, name: str, rows: int, columns: int, width: float | None = None) -> tf.Variable:
        limit = width if width is not None else float(np.sqrt(3.0 / rows))
        values = self._random.random((rows, columns), dtype=np.float32) * np.float32(2 * limit) - np.float32(limit)
        return tf.Variable(values, name=name, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def __call__(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        ids, mask = self._ids(self._tokens(inputs))
        return {"outputs": self._encode(ids, mask)}

    def _tokens(self, texts: tf.Tensor) -> tf.SparseTensor:
        if self._shape.lower:
            texts = tf.strings.lower(texts)
        for pattern, rewrite in REGEXES:
            texts = tf.strings.regex_replace(texts, pattern, rewrite)
        texts = tf.strings.join([" ", texts, " "])
        if self._shape.lower:
            indices, values, shape = tf.raw_ops.StringSplitV2(input=tf.strings.strip(texts), sep="", maxsplit=-1)
        else:
            indices, values, shape = tf.raw_ops.StringSplit(input=texts, delimiter=" ", skip_empty=True)
        return tf.SparseTensor(indices, values, shape)

    def _ids(self, tokens: tf.SparseTensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ids `[n, length]` and a mask with 1 for a token and 0 for padding."""
        if self._shape.fill_strings:
            tokens, _ = tf.sparse.fill_empty_rows(tokens, "")
            ids = tf.SparseTensor(tokens.indices, self.table.lookup(tokens.values), tokens.dense_shape)
        else:
            ids = tf.SparseTensor(tokens.indices, self.table.lookup(tokens.values), tokens.dense_shape)
            ids, _ = tf.sparse.fill_empty_rows(ids, tf.constant(0, tf.int64))
        # If all texts are empty, the width is 0, but each row has a filled cell.
        shape = tf.maximum(ids.dense_shape, [0, 1])
        padding = tf.constant(-1, tf.int64)
        dense = tf.raw_ops.SparseToDense(
            sparse_indices=ids.indices, output_shape=shape, sparse_values=ids.values, default_value=padding
        )
        return tf.maximum(dense, 0), tf.cast(dense >= 0, tf.float32)

    def _encode(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        states = tf.compat.v1.nn.embedding_lookup(self.embeddings, ids, partition_strategy="mod")
        states = self._matmul(states, self.project) + self._positions(tf.shape(ids)[1])
        for block in self.blocks:
            states = self._normalise(states + self._attention(states, mask, block))
            wide = tf.nn.relu(self._matmul(states, block["widen"]))
            states = self._normalise(states + self._matmul(wide, block["narrow"]))
        total = tf.reduce_sum(states * mask[:, :, None], axis=1)
        mean = total / tf.sqrt(tf.reduce_sum(mask, axis=1, keepdims=True))
        return tf.nn.l2_normalize(tf.tanh(tf.matmul(mean, self.dense)), axis=1)

    def _attention(self, states: tf.Tensor, mask: tf.Tensor, block: dict[str, tf.Variable]) -> tf.Tensor:
        size = self._shape.hidden // self._shape.heads
        batch, length = tf.shape(states)[0], tf.shape(states)[1]

        def heads(name: str) -> tf.Tensor:
            parts = tf.reshape(self._matmul(states, block[name]), [batch, length, self._shape.heads, size])
            return tf.transpose(parts, [0, 2, 1, 3])

        scores = tf.matmul(heads("query"), heads("key"), transpose_b=True) / np.float32(np.sqrt(size))
        weights = tf.nn.softmax(scores + (mask[:, None, None, :] - 1.0) * 1e9)
        mixed = tf.transpose(tf.matmul(weights, heads("value")), [0, 2, 1, 3])
        return self._matmul(tf.reshape(mixed, [batch, length, self._shape.hidden]), block["output"])

    def _positions(self, length: tf.Tensor) -> tf.Tensor:
        """Returns sines and cosines `[length, hidden]`, computed in the graph for any length."""
        half = self._shape.hidden // 2
        rates = np.exp(np.arange(half) * (-np.log(10_000.0) / max(half - 1, 1))).astype(np.float32)
        angles = tf.cast(tf.range(length), tf.float32)[:, None] * rates[None, :]
        return tf.concat([tf.sin(angles), tf.cos(angles)], axis=1)

    @staticmethod
    def _matmul(states: tf.Tensor, weight: tf.Variable) -> tf.Tensor:
        return tf.tensordot(states, weight, 1)

    @staticmethod
    def _normalise(states: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(states, axes=[-1], keepdims=True)
        return (states - mean) * tf.math.rsqrt(variance + 1e-6)


def save(folder: Path, shape: Shape) -> None:
    """Writes the SavedModel at `folder`."""
    module = StandIn(shape)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.__call__})


def encoder_of(encoder_id: str, shape: Shape) -> Encoder:
    """Returns the description of such a model's bundle."""
    words = f"random weights of seed {shape.seed} in the shape of Universal Sentence Encoder large, for tests"
    return Encoder(encoder_id, "0.1.0", words, "CC0-1.0", MAX_TOKENS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved-model", type=Path, required=True, metavar="DIR", help="where to write the SavedModel")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="also convert it to this bundle; the last component is its id")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="each seed gives another encoder; default: 1")
    arguments = parser.parse_args()
    shape = Shape(seed=arguments.seed)
    save(arguments.saved_model, shape)
    if arguments.bundle is None:
        return 0
    encoder = encoder_of(arguments.bundle.name, shape)
    try:
        print(f"{encoder.encoder_id}: {build(arguments.saved_model, encoder, arguments.bundle.resolve())}")
    except UseLargeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
