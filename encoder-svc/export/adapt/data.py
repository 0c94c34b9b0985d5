"""Movies for adaptation: the Kaggle CSV, the split rule, and batches of token ids.

The split rule is that of the trainer: ``xxh3_64(decimal id as ASCII) % 100``; below 72 train, below 82 validation, else
test. Movies enter only through `MovieSet`, which accepts one named split and raises `HeldOutMovieError` for movies of
another, so no test movie can reach adaptation.
"""

from __future__ import annotations

import ast
import csv
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

# Label order and TMDB ids. The classifier uses the same order.
GENRES: tuple[tuple[str, int], ...] = (
    ("Animation", 16), ("Comedy", 35), ("Family", 10751), ("Adventure", 12), ("Fantasy", 14), ("Romance", 10749),
    ("Drama", 18), ("Action", 28), ("Crime", 80), ("Thriller", 53), ("Horror", 27), ("History", 36),
    ("Science Fiction", 878), ("Mystery", 9648), ("War", 10752), ("Foreign", 10769), ("Music", 10402),
    ("Documentary", 99), ("Western", 37), ("TV Movie", 10770),
)  # fmt: skip
LABELS: tuple[str, ...] = tuple(name for name, _ in GENRES)
LABEL_OF_ID: dict[int, int] = {tmdb: index for index, (_, tmdb) in enumerate(GENRES)}

SPLIT_RULE = "xxh3_64(decimal id) % 100: <72 train, <82 validation, else test"
TEXT_TEMPLATE = "{title}. {overview}"
NO_OVERVIEW = ("", "No overview found.")  # The second is a placeholder in the source.
ALLOWED_SPLITS = ("train", "validation")


class DataError(Exception):
    """The data file cannot be used. The message says why and what to do."""


class HeldOutMovieError(DataError):
    """Adaptation was given a movie of a split that it must not see."""


@dataclass(frozen=True)
class Movie:
    """A usable movie: its decimal id, texts, and the indices of its genres in `LABELS`.

    The tagline is used only in training, because requests for genres do not have one."""

    id: str
    title: str
    overview: str
    genres: tuple[int, ...]
    tagline: str = ""


def split_of(movie_id: str) -> str:
    """Returns the split of a movie id."""
    bucket = xxhash.xxh3_64_intdigest(movie_id.encode("ascii"), seed=0) % 100
    return "train" if bucket < 72 else "validation" if bucket < 82 else "test"


def compose(title: str, overview: str) -> str:
    """Returns the text to encode for a movie, which is the overview alone if there is no title."""
    return TEXT_TEMPLATE.format(title=title, overview=overview) if title else overview


def _known_genres(literal: str) -> tuple[int, ...]:
    """Parses label indices from a literal such as ``[{'id': 16, 'name': 'Animation'}]``. Ignores unknown ids."""
    try:
        entries = ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        return ()
    if not isinstance(entries, list):
        return ()
    ids = {entry.get("id") for entry in entries if isinstance(entry, dict)}
    return tuple(sorted(LABEL_OF_ID[i] for i in ids if isinstance(i, int) and i in LABEL_OF_ID))


def read_movies(path: Path) -> Iterator[Movie]:
    """Yields every usable movie of the CSV in file order. Of records with the same id, only the first counts.

    Records are dropped if their id is not decimal or if they have no overview or no known genre."""
    csv.field_size_limit(1 << 26)
    seen: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = {"id", "title", "overview", "genres"} - set(reader.fieldnames or ())
            if missing:
                absent = ", ".join(sorted(missing))
                raise DataError(f"{path}: expected the columns of Kaggle's movies_metadata.csv, found no {absent}")
            for row in reader:
                movie_id = (row["id"] or "").strip()
                if not (movie_id.isascii() and movie_id.isdigit()):
                    continue
                overview, title = (row["overview"] or "").strip(), (row["title"] or "").strip()
                genres = _known_genres(row["genres"] or "")
                if overview in NO_OVERVIEW or not genres or movie_id in seen:
                    continue
                seen.add(movie_id)
                yield Movie(movie_id, title, overview, genres, (row.get("tagline") or "").strip())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; name Kaggle's movies_metadata.csv with --data") from error


class MovieSet:
    """Movies of exactly one split.

    Every movie for adaptation passes through here. The split must be train or validation, and each movie's id is checked
    against it."""

    def __init__(self, split: str, movies: Iterable[Movie]) -> None:
        if split not in ALLOWED_SPLITS:
            raise HeldOutMovieError(f"adaptation may use {' and '.join(ALLOWED_SPLITS)} movies, never {split}")
        self.split = split
        self.movies = tuple(movies)
        for movie in self.movies:
            actual = split_of(movie.id)
            if actual != split:
                raise HeldOutMovieError(f"movie {movie.id} belongs to {actual}, not to {split}; adaptation rejects it")

    @classmethod
    def load(cls, path: Path, split: str) -> MovieSet:
        """Reads the movies of `split` from the CSV at `path`."""
        if split not in ALLOWED_SPLITS:
            raise HeldOutMovieError(f"adaptation may use {' and '.join(ALLOWED_SPLITS)} movies, never {split}")
        movies = cls(split, (movie for movie in read_movies(path) if split_of(movie.id) == split))
        if not movies.movies:
            raise DataError(f"{path}: expected movies of the {split} split, found none")
        return movies

    def __len__(self) -> int:
        return len(self.movies)

    def subset(self, count: int) -> MovieSet:
        """Returns the first `count` movies in an order determined by their ids, for trials on less data."""
        ordered = sorted(self.movies, key=lambda movie: xxhash.xxh3_64_intdigest(movie.id.encode(), seed=1))
        return MovieSet(self.split, ordered[:count])

    def labels(self) -> np.ndarray:
        """Returns `[movies, 20]` of 0 and 1, float32."""
        out = np.zeros((len(self.movies), len(LABELS)), dtype=np.float32)
        for row, movie in enumerate(self.movies):
            out[row, list(movie.genres)] = 1.0
        return out

    def digest(self) -> str:
        """Returns the sha256 of ids, texts and genres, which identifies a run's training data."""
        digest = hashlib.sha256()
        for movie in self.movies:
            digest.update(repr((movie.id, movie.title, movie.overview, movie.genres)).encode())
        return digest.hexdigest()


def length_bucketed(lengths: np.ndarray, batch: int, seed: int, pool: int = 24) -> list[np.ndarray]:
    """Returns batches of indices of similar length.

    The indices are shuffled, cut into pools of `pool` batches, sorted inside each pool, and the batches are shuffled
    again. The result depends only on the arguments, which makes resuming exact."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), batch * pool):
        part = order[start : start + batch * pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch] for i in range(0, len(part), batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def pad(rows: list[list[int]], pad_id: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the token ids, padded to the longest row, and the mask."""
    width = max(map(len, rows))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask
