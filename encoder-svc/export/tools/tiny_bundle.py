"""Makes a tiny bundle with random weights for tests, with the operators and the code path of the real one, in 250 kB.

Its vectors have no meaning, but they depend on the text, the order of its words and the weights. All values come from
random.Random, so a seed gives the same bytes everywhere.

examples (the three bundles in the repository):
  python -m export.tools.tiny_bundle --output tests/fixtures/tiny-512 --seed 1
  python -m export.tools.tiny_bundle --output tests/fixtures/tiny-other-512 --seed 2
  python -m export.tools.tiny_bundle --output tests/fixtures/tiny-int8-512 --seed 1 --precision int8
"""

from __future__ import annotations

import argparse
import random
import string
from pathlib import Path

import numpy as np

from export.minilm import lift
from export.minilm.adapter import MergedEncoder
from export.minilm.build import BuildReport, EncoderSource, build_bundle
from export.minilm.weights import EncoderShape, Weights, tensor_shapes
from export.minilm.wordpiece import serialise
from export.precision import Precision

MAX_TOKENS = 64
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(
    """
    the a an of in on at to from with by for and or but not is are was be has had his her their its they he she it who
    what when where how one two three new old young last first lost film story life love war man woman boy girl child
    family father mother brother sister son daughter friend king queen police detective killer robot alien ghost monster
    space time night day year years world city town house school island sea mountain road death murder money secret
    dream dance music comedy drama action horror romance thriller fantasy mystery western crime history finds
    must save find meets falls takes back home after before between against together every only into out up down over under
    voice radio chef hotel train ship
    """.split()
)
SUFFIXES = ("##s", "##ed", "##ing", "##er", "##ly", "##es", "##ion", "##ness")


def vocabulary() -> list[str]:
    """Returns about 300 entries that can spell any lower-case ASCII word."""
    letters = string.ascii_lowercase + string.digits
    entries = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *string.punctuation, *SUFFIXES, *WORDS]
    return list(dict.fromkeys(entries))


def tokenizer_json(entries: list[str]) -> bytes:
    """Returns an uncased BERT tokenizer with the vocabulary `entries`."""
    ids = {entry: position for position, entry in enumerate(entries)}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return serialise(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": ids[token], "content": token, **special} for token in SPECIAL],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                ],
                "pair": [
                    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                    {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
                ],
                "special_tokens": {
                    token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": ids,
            },
        }
    )


def tiny_shape(entries: list[str]) -> EncoderShape:
    return EncoderShape(
        layers=2,
        hidden=32,
        heads=4,
        feed_forward=64,
        vocabulary=len(entries),
        positions=MAX_TOKENS,
        layer_norm_epsilon=1e-12,
    )


def random_weights(shape: EncoderShape, seed: int) -> Weights:
    """Returns uniform weights. Normalisation scales are around 1, and word embeddings dominate the shared ones."""
    generator = random.Random(seed)
    weights = {}
    for name, size in tensor_shapes(shape).items():
        centre, width = 0.0, 0.3
        if name.endswith("LayerNorm.weight"):
            centre, width = 1.0, 0.2
        elif name.endswith("word_embeddings.weight"):
            width = 1.0
        elif name.endswith(("bias", "token_type_embeddings.weight")):
            width = 0.02
        count = int(np.prod(size))
        # Uniform, because drawing normal values uses the platform's logarithm, which is not exact everywhere.
        values = [centre + width * (2.0 * generator.random() - 1.0) for _ in range(count)]
        weights[name] = np.array(values, dtype=np.float32).reshape(size)
    return weights


def build_tiny(output: Path, seed: int, precision: Precision = Precision.FP32) -> BuildReport:
    """Writes the bundle at `output`, whose last component is its id."""
    entries = vocabulary()
    shape = tiny_shape(entries)
    encoder = MergedEncoder(
        weights=random_weights(shape, seed),
        projection=lift.orthonormal_lift(shape.hidden, seed),
        projection_bias=np.zeros(lift.DIMENSION, dtype=np.float32),
        activation="l2",
        version="0.1.0",
        description=f"random weights of seed {seed}, for tests; its vectors mean nothing",
    )
    source = EncoderSource(output.name, precision, "CC0-1.0", shape, encoder, tokenizer_json(entries), MAX_TOKENS)
    return build_bundle(source, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="the bundle's folder; its name becomes the id"
    )
    parser.add_argument("--seed", type=int, required=True, metavar="N", help="each seed gives another encoder")
    parser.add_argument(
        "--precision", type=Precision, choices=list(Precision), default=Precision.FP32, help="default: fp32"
    )
    arguments = parser.parse_args()
    report = build_tiny(arguments.output.resolve(), arguments.seed, arguments.precision)
    print(f"{arguments.output.name}: {report}")


if __name__ == "__main__":
    main()
