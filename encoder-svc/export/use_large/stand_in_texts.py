"""Writes texts with TensorFlow's vectors, which tests/tensorflow.rs compares with a converted bundle.

The texts are words of every length that the hash distinguishes, sentences, random Unicode and, if given, real overviews,
which are not committed. Writes `texts.json` and `vectors.safetensors`.

examples:
  python -m export.use_large.stand_in_texts --saved-model stand-in --output texts
  python -m export.use_large.stand_in_texts --saved-model stand-in --output texts --random 1000 --overviews movies_metadata.csv
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from safetensors.numpy import save_file

from export.use_large.reference import tensorflow_vectors
from export.use_large.saved_model import signature
from export.use_large.stand_in_words import WORDS

SEED = 20_180_329
LONGEST_WORD = 512
# Ranges of code points. The last one is all of Unicode.
RANGES = (
    (0x20, 0x7E),
    (0x00, 0x1F),
    (0x80, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x2000, 0x206F),
    (0x3000, 0x30FF),
    (0x4E00, 0x9FFF),
    (0x1F300, 0x1FAFF),
    (0x00, 0x10FFFF),
)
SURROGATES = range(0xD800, 0xE000)


def unknown_words(a_text: int) -> Iterator[str]:
    """Yields texts of unknown words of 1 to 512 bytes, with several words per text."""
    words = ["".join(chr(97 + (i * 7 + length) % 26) for i in range(length)) for length in range(1, LONGEST_WORD + 1)]
    for at in range(0, LONGEST_WORD, a_text):
        yield " ".join(words[at : at + a_text])


def sentences(generator: random.Random, count: int) -> Iterator[str]:
    """Yields known words in any order and case, with punctuation, numbers and unknown words."""
    marks = (". ", ", ", "...", "!", "?!", " -- ", ": ", "'s ", '"', " (", ") ", "\n", "\t", ", 1,000.50 ", " 3 . 14 ")
    for _ in range(count):
        parts = []
        for _ in range(generator.randint(1, 120)):
            word = generator.choice(WORDS)
            if generator.random() < 0.2:
                word = generator.choice((word.upper(), word.title(), word[::-1], word + "zq"))
            parts.append(word + (generator.choice(marks) if generator.random() < 0.2 else " "))
        yield "".join(parts)


def random_unicode(generator: random.Random, count: int) -> Iterator[str]:
    """Yields characters of one or several scripts, with control characters, unassigned ones and some words."""
    for _ in range(count):
        ranges = generator.sample(RANGES, generator.randint(1, 3))
        parts = []
        for _ in range(generator.randint(1, 200)):
            code = generator.randint(*generator.choice(ranges))
            if code in SURROGATES:
                continue
            parts.append(chr(code) if generator.random() < 0.9 else f" {generator.choice(WORDS)} ")
        # The service rejects blank texts. A letter makes every text acceptable.
        yield "".join(parts) + "x"


def long_texts(generator: random.Random) -> Iterator[str]:
    for count in (200, 350, 500):
        yield " ".join(generator.choice(WORDS) for _ in range(count))


def overviews(path: Path, count: int) -> Iterator[str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = (row["overview"] for row in csv.DictReader(file))
        yield from itertools.islice((text for text in rows if (text or "").strip()), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved-model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--words-a-text", type=int, default=4, metavar="N", help="unknown words per text; default: 4")
    parser.add_argument("--sentences", type=int, default=48, metavar="N", help="default: 48")
    parser.add_argument("--random", type=int, default=64, metavar="N", help="texts of random Unicode; default: 64")
    parser.add_argument("--overviews", type=Path, metavar="CSV", help="also use 1,000 overviews of this movies_metadata.csv")
    arguments = parser.parse_args()
    generator = random.Random(SEED)
    texts = [
        *unknown_words(arguments.words_a_text),
        *sentences(generator, arguments.sentences),
        *random_unicode(generator, arguments.random),
        *long_texts(generator),
        *(overviews(arguments.overviews, 1_000) if arguments.overviews else ()),
    ]
    vectors = tensorflow_vectors(arguments.saved_model, signature(arguments.saved_model).name, texts)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "texts.json").write_text(json.dumps(texts, indent=0) + "\n", encoding="ascii")
    save_file({"vectors": vectors}, arguments.output / "vectors.safetensors")
    print(f"{len(texts)} texts with TensorFlow's vectors in {arguments.output.name}")


if __name__ == "__main__":
    main()
