"""Movies as token ids, and the views of them that training sees: no text twice the same way, so that none is learned by
heart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from export.adapt.data import DataError, MovieSet, compose

MASK_ID = 103
FIRST_WORD_ID = 1000  # below it are special and unused entries
SHORTEST_CUT, LONGEST_CUT = 0.15, 0.45  # shares of a text


class Texts:
    """Movies as token ids, with their titles, without, and with their taglines too; and labels."""

    def __init__(self, movies: MovieSet, tokenizer: Tokenizer) -> None:
        def ids(texts: list[str]) -> list[list[int]]:
            return [encoding.ids for encoding in tokenizer.encode_batch(texts)]

        self.titled = ids([compose(movie.title, movie.overview) for movie in movies.movies])
        self.bare = ids([movie.overview for movie in movies.movies])
        self.tagged = ids([compose(movie.title, f"{movie.tagline} {movie.overview}".strip()) for movie in movies.movies])
        self.has_tagline = np.array([bool(movie.tagline) for movie in movies.movies])
        self.lengths = np.array([len(row) for row in self.titled])
        self.labels = movies.labels()

    def __len__(self) -> int:
        return len(self.titled)


def load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """The base's tokenizer, with its own fixed truncation and padding replaced by ours."""
    if not path.is_file():
        raise DataError(f"{path}: no tokenizer.json; --base names the folder with it and model.safetensors")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length=max_tokens)
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True)
class Views:
    """How texts are varied. Each is a share: of texts, of batches (`cut`), of tokens (`word_dropout`)."""

    title_dropout: float = 0.0  # texts without their title
    tagline: float = 0.0  # of the movies that have one, texts with their tagline
    cut: float = 0.0  # batches whose texts each lose a run of tokens; whole batches, as that makes them shorter
    word_dropout: float = 0.0  # tokens replaced by [MASK]

    def rows(self, texts: Texts, movies: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        """A view of each of `movies`, a batch, as token ids; a function of its arguments alone."""
        bare = rng.random(len(movies)) < self.title_dropout
        tagged = (rng.random(len(movies)) < self.tagline) & texts.has_tagline[movies]
        cut = SHORTEST_CUT + (LONGEST_CUT - SHORTEST_CUT) * rng.random() if rng.random() < self.cut else 0.0
        rows = [
            (texts.bare if is_bare else texts.tagged if is_tagged else texts.titled)[movie]
            for movie, is_bare, is_tagged in zip(movies, bare, tagged, strict=True)
        ]
        return [without_a_run(row, cut, rng) for row in rows] if cut else rows

    def masked(self, ids: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`ids` with a share of the words replaced by [MASK]."""
        if not self.word_dropout:
            return ids
        hit = (rng.random(ids.shape) < self.word_dropout) & mask & (ids >= FIRST_WORD_ID)
        return np.where(hit, MASK_ID, ids)


def without_a_run(row: list[int], share: float, rng: np.random.Generator) -> list[int]:
    """`row` without a run of `share` of its tokens, wherever it falls; [CLS] and [SEP] stay."""
    inner = len(row) - 2
    length = int(inner * share)
    start = 1 + int(rng.integers(0, inner - length + 1))
    return row[:start] + row[start + length :]
