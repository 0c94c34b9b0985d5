"""Compares a peer's vectors with the float32 graph's, and the genres that the default model finds in them with the real ones."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from export.adapt.data import Movie, Source, compose, read_movies, split_of
from export.minilm.build import open_session, run_session
from export.minilm.wordpiece import tokenize
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer

Array = NDArray[np.float32]


def reference_vectors(bundle: Path, texts: Sequence[str]) -> Array:
    """Returns the vectors `[texts, 512]` of a bundle's graph, run by ONNX Runtime in this process."""
    settings = json.loads((bundle / "encoder.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(bundle / settings["tokenizer"]["file"]))
    session = open_session((bundle / settings["model"]).read_bytes())
    return np.stack([run_session(session, [tokenize(tokenizer, text, settings["max_tokens"]).ids])[0] for text in texts])


def cosines(found: Array, expected: Array) -> Array:
    """Returns the cosine of each row of one array to the same row of the other."""
    if found.shape != expected.shape:
        raise ValueError(f"expected vectors of shape {list(expected.shape)}, found {list(found.shape)}")
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    products: Array = (found * expected).sum(axis=1) / lengths
    return products


@dataclass(frozen=True)
class Task:
    """Test movies, and the model that finds genres in their vectors."""

    movies: tuple[Movie, ...]
    model: Path

    @classmethod
    def read(cls, data: Path, model: Path, count: int) -> Task:
        """Reads `count` test movies of a table, chosen by their ids. Raises DataError if it cannot be read."""
        test = [movie for movie in read_movies(Source(data)) if split_of(movie.id) == "test"]
        test.sort(key=lambda movie: xxhash.xxh3_64_intdigest(movie.id.encode(), seed=1))
        return cls(tuple(test[:count]), model)

    def texts(self) -> list[str]:
        return [compose(movie.title, movie.overview) for movie in self.movies]

    def probabilities(self, vectors: Array) -> Array:
        """Returns the model's probabilities `[movies, labels]` for vectors `[movies, 512]`, as genre-model computes them."""
        with safe_open(self.model, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        hidden = np.maximum(vectors @ tensors["hidden.weight"].T + tensors["hidden.bias"], 0)
        logits = hidden @ tensors["output.weight"].T + tensors["output.bias"]
        logits += np.stack([word_logits(tensors, movie) for movie in self.movies])
        probabilities: Array = 1 / (1 + np.exp(-logits))
        return probabilities

    def micro_f1(self, vectors: Array) -> float:
        """Returns the micro-F1 of the model on vectors `[movies, 512]`."""
        with safe_open(self.model, framework="numpy") as file:
            thresholds = json.loads(file.metadata()["thresholds"])["per_genre"]
        predicted = self.probabilities(vectors) > np.array(thresholds)
        real = np.zeros_like(predicted)
        for row, movie in enumerate(self.movies):
            real[row, list(movie.genres)] = True
        return float(2 * (predicted & real).sum() / (predicted.sum() + real.sum()))


def word_logits(tensors: dict[str, Array], movie: Movie) -> Array:
    """Returns what the word model adds, by the rule of genre-model/src/word_features.rs."""
    buckets = tensors["words.weight"].shape[0]
    total = np.zeros(tensors["words.weight"].shape[1], dtype=np.float32)
    for kind, words, length in (
        (b"t", word_set(movie.title) | word_set(movie.overview), 1.0),
        (b"i", word_set(movie.title), 0.7),
    ):
        hashes = {xxhash.xxh3_64_intdigest(kind + word.encode()) & 0xFFFFFFFF for word in words}
        rows = [number & (buckets - 1) for number in hashes]
        total += tensors["words.weight"][rows].sum(axis=0) * (length / max(len(rows), 1) ** 0.5)
    total *= tensors["words.scale"]
    return total


def word_set(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text))}
