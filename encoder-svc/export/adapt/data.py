"""Movies for adaptation: reading the Kaggle CSV, the split rule, and texts as token ids.

The split rule is the project's contract: ``xxh3_64(decimal id as ASCII) % 100``; below 72 train, below 82 validation,
else test. Everything here goes through `MovieSet`, which takes movies of one named split only and raises
`HeldOutMovieError` for any other, so that no test movie can reach adaptation by any road.
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

# Label order and TMDB ids; the classifier uses the same order.
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
NO_OVERVIEW = ("", "No overview found.")  # the second is the source's own placeholder
ALLOWED_SPLITS = ("train", "validation")


class DataError(Exception):
    """The data file cannot be used; the message says why and what to do."""


class HeldOutMovieError(DataError):
    """A movie of a split that adaptation must not see was handed to it."""


@dataclass(frozen=True)
class Movie:
    """One usable movie: its decimal id, texts, and the indices of its genres in `LABELS`.

    The tagline may teach, but nobody who asks for genres gives it."""

    id: str
    title: str
    overview: str
    genres: tuple[int, ...]
    tagline: str = ""


def split_of(movie_id: str) -> str:
    """The split that a movie id belongs to, by the project's contract."""
    bucket = xxhash.xxh3_64_intdigest(movie_id.encode("ascii"), seed=0) % 100
    return "train" if bucket < 72 else "validation" if bucket < 82 else "test"


def compose(title: str, overview: str) -> str:
    """The one text that is encoded for a movie; a movie without a title is its overview alone."""
    return TEXT_TEMPLATE.format(title=title, overview=overview) if title else overview


def _known_genres(literal: str) -> tuple[int, ...]:
    """Label indices in a Python literal like ``[{'id': 16, 'name': 'Animation'}]``; unknown ids are ignored."""
    try:
        entries = ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        return ()
    if not isinstance(entries, list):
        return ()
    ids = {entry.get("id") for entry in entries if isinstance(entry, dict)}
    return tuple(sorted(LABEL_OF_ID[i] for i in ids if isinstance(i, int) and i in LABEL_OF_ID))


def read_movies(path: Path) -> Iterator[Movie]:
    """Every usable movie of the CSV, in file order, the first of a duplicated id.

    Records whose id is not decimal, or without an overview or any known genre, are dropped."""
    csv.field_size_limit(1 << 26)
    seen: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = {"id", "title", "overview", "genres"} - set(reader.fieldnames or ())
            if missing:
                absent = ", ".join(sorted(missing))
                raise DataError(f"{path}: no column {absent}; --data wants Kaggle's movies_metadata.csv")
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
    """Movies of one split, and only of that one.

    It is the sole door into adaptation: the split must be train or validation, and each movie's own id is checked
    against it, whatever the caller says the movie is."""

    def __init__(self, split: str, movies: Iterable[Movie]) -> None:
        if split not in ALLOWED_SPLITS:
            raise HeldOutMovieError(f"adaptation may use {' and '.join(ALLOWED_SPLITS)} movies, never {split}")
        self.split = split
        self.movies = tuple(movies)
        for movie in self.movies:
            actual = split_of(movie.id)
            if actual != split:
                raise HeldOutMovieError(f"movie {movie.id} belongs to {actual}, not to {split}: it was kept out")

    @classmethod
    def load(cls, path: Path, split: str) -> MovieSet:
        """The movies of `split` in the CSV at `path`."""
        if split not in ALLOWED_SPLITS:
            raise HeldOutMovieError(f"adaptation may use {' and '.join(ALLOWED_SPLITS)} movies, never {split}")
        movies = cls(split, (movie for movie in read_movies(path) if split_of(movie.id) == split))
        if not movies.movies:
            raise DataError(f"{path}: no usable movie of the {split} split")
        return movies

    def __len__(self) -> int:
        return len(self.movies)

    def subset(self, count: int) -> MovieSet:
        """The first `count` movies in an order fixed by their ids: for trials on less data."""
        ordered = sorted(self.movies, key=lambda movie: xxhash.xxh3_64_intdigest(movie.id.encode(), seed=1))
        return MovieSet(self.split, ordered[:count])

    def labels(self) -> np.ndarray:
        """[movies, 20] of 0 and 1, float32."""
        out = np.zeros((len(self.movies), len(LABELS)), dtype=np.float32)
        for row, movie in enumerate(self.movies):
            out[row, list(movie.genres)] = 1.0
        return out

    def digest(self) -> str:
        """sha256 over ids, texts and genres, so that a run can say what it learned from."""
        digest = hashlib.sha256()
        for movie in self.movies:
            digest.update(repr((movie.id, movie.title, movie.overview, movie.genres)).encode())
        return digest.hexdigest()


def length_bucketed(lengths: np.ndarray, batch: int, seed: int, pool: int = 24) -> list[np.ndarray]:
    """Batches of indices of similar length: shuffled, cut into pools of `pool` batches, sorted inside each, and the
    batches shuffled again. A pure function of its arguments, which is what makes resuming exact."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), batch * pool):
        part = order[start : start + batch * pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch] for i in range(0, len(part), batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def pad(rows: list[list[int]], pad_id: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Token ids padded to the longest row, and the mask."""
    width = max(map(len, rows))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask
