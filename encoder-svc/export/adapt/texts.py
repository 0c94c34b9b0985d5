"""Movies as token ids, and the random views of them in training, which keep the model from memorising texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from export.adapt.data import DataError, MovieSet, compose

MASK_ID = 103
FIRST_WORD_ID = 1000  # Smaller ids are special and unused entries.
SHORTEST_CUT, LONGEST_CUT = 0.15, 0.45  # Fractions of a text.


class Texts:
    """Labels, their weights and token ids of movies: with titles, without titles, and with titles and taglines."""

    def __init__(self, movies: MovieSet, tokenizer: Tokenizer) -> None:
        def ids(texts: list[str]) -> list[list[int]]:
            return [encoding.ids for encoding in tokenizer.encode_batch(texts)]

        self.titled = ids([compose(movie.title, movie.overview) for movie in movies.movies])
        self.bare = ids([movie.overview for movie in movies.movies])
        self.tagged = ids([compose(movie.title, f"{movie.tagline} {movie.overview}".strip()) for movie in movies.movies])
        self.has_tagline = np.array([bool(movie.tagline) for movie in movies.movies])
        self.lengths = np.array([len(row) for row in self.titled])
        self.labels, self.weights = movies.labels(), movies.weights()

    def __len__(self) -> int:
        return len(self.titled)


def load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """Loads the base's tokenizer, truncating at `max_tokens` and without padding."""
    if not path.is_file():
        raise DataError(f"{path}: expected tokenizer.json, found none; --base names the folder with it and model.safetensors")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length=max_tokens)
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True)
class Views:
    """How texts vary. Each value is a fraction: of texts, of batches (`cut`) or of tokens (`word_dropout`)."""

    title_dropout: float = 0.0  # Texts without their title.
    tagline: float = 0.0  # Texts with their tagline, among movies that have one.
    cut: float = 0.0  # Batches whose texts each lose a run of tokens. It affects whole batches, which makes them shorter.
    word_dropout: float = 0.0  # Tokens replaced by [MASK].

    def rows(self, texts: Texts, movies: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        """Returns a view of each movie of a batch as token ids. The result depends only on the arguments."""
        bare = rng.random(len(movies)) < self.title_dropout
        tagged = (rng.random(len(movies)) < self.tagline) & texts.has_tagline[movies]
        cut = SHORTEST_CUT + (LONGEST_CUT - SHORTEST_CUT) * rng.random() if rng.random() < self.cut else 0.0
        rows = [
            (texts.bare if is_bare else texts.tagged if is_tagged else texts.titled)[movie]
            for movie, is_bare, is_tagged in zip(movies, bare, tagged, strict=True)
        ]
        return [without_a_run(row, cut, rng) for row in rows] if cut else rows

    def masked(self, ids: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns `ids` with a fraction of the words replaced by [MASK]."""
        if not self.word_dropout:
            return ids
        hit = (rng.random(ids.shape) < self.word_dropout) & mask & (ids >= FIRST_WORD_ID)
        return np.where(hit, MASK_ID, ids)


def without_a_run(row: list[int], share: float, rng: np.random.Generator) -> list[int]:
    """Returns `row` without a random run of `share` of its tokens. [CLS] and [SEP] stay."""
    inner = len(row) - 2
    length = int(inner * share)
    start = 1 + int(rng.integers(0, inner - length + 1))
    return row[:start] + row[start + length :]
