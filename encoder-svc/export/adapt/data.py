"""Movies for adaptation: files with the columns of Kaggle's CSV, the split rule, and batches of token ids.

The split rule is that of the trainer: ``xxh3_64(decimal id as ASCII) % 100``; below 72 train, below 82 validation, else
test. Movies enter only through `MovieSet`, which accepts one named split and raises `HeldOutMovieError` for movies of
another, so no test movie can reach adaptation. A train movie whose overview a held-out movie of any file has, too, is
dropped.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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

    The tagline is used only in training, because requests for genres do not have one. `weight` and `unknown`, the labels
    that nobody knows for this movie, come from its source."""

    id: str
    title: str
    overview: str
    genres: tuple[int, ...]
    tagline: str = ""
    weight: float = 1.0
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """A file of movies, and what its labels are worth.

    `rows` is the number of records to read (0: all). A genre in `unknown` that a movie does not have is unknown, not
    absent, so it takes no part in the loss."""

    path: Path
    rows: int = 0
    weight: float = 1.0
    unknown: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Source:
        """Parses ``FILE[,rows=N][,weight=W][,unknown=LABEL+LABEL]``. Raises DataError for anything else.

        Settings are read from the end, so a path may contain commas."""
        path = text
        found: dict[str, str] = {}
        while match := re.fullmatch(r"(.+),(rows|weight|unknown)=([^,]*)", path, re.DOTALL):
            path, name, value = match.groups()
            found[name] = value
        try:
            rows, weight = int(found.get("rows", 0)), float(found.get("weight", 1))
        except ValueError as error:
            raise DataError(f"{text}: expected numbers for rows and weight: {error}") from error
        if rows < 0 or not 0 < weight <= 1000:
            raise DataError(f"{text}: expected rows of at least 0 and a weight over 0, found {rows} and {weight:g}")
        names = [name for name in found.get("unknown", "").split("+") if name]
        if strange := set(names) - set(LABELS):
            raise DataError(f"{text}: expected labels such as {LABELS[0]}, found {', '.join(sorted(strange))}")
        return cls(Path(path), rows, weight, tuple(LABELS.index(name) for name in names))

    def __str__(self) -> str:
        """Returns what `parse` reads, with the file's name in place of its path."""
        settings = [f"rows={self.rows}"] if self.rows else []
        settings += [f"weight={self.weight:g}"] if self.weight != 1 else []
        settings += ["unknown=" + "+".join(LABELS[label] for label in self.unknown)] if self.unknown else []
        return ",".join([self.path.name, *settings])


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


def normalised(overview: str) -> str:
    """Returns the words of an overview without case, accents' encodings and punctuation, to find copies of it."""
    text = unicodedata.normalize("NFKC", overview).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in text).split())


def read_movies(source: Source) -> Iterator[Movie]:
    """Yields every usable movie of a CSV, gzipped or not, in file order.

    Records are dropped if their id is not decimal or if they have no overview or no known genre."""
    csv.field_size_limit(1 << 26)
    path = source.path
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = {"id", "title", "overview", "genres"} - set(reader.fieldnames or ())
            if missing:
                absent = ", ".join(sorted(missing))
                raise DataError(f"{path}: expected the columns of Kaggle's movies_metadata.csv, found no {absent}")
            for row in itertools.islice(reader, source.rows or None):
                movie_id = (row["id"] or "").strip()
                if not (movie_id.isascii() and movie_id.isdigit()):
                    continue
                # The trainer hashes the number, which has no zeros before it.
                movie_id = movie_id.lstrip("0") or "0"
                overview, title = (row["overview"] or "").strip(), (row["title"] or "").strip()
                genres = _known_genres(row["genres"] or "")
                if overview in NO_OVERVIEW or not genres:
                    continue
                unknown = tuple(label for label in source.unknown if label not in genres)
                tagline = (row.get("tagline") or "").strip()
                yield Movie(movie_id, title, overview, genres, tagline, source.weight, unknown)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {why}; name a file with the columns of Kaggle's movies_metadata.csv with --data") from error


def unique(sources: Sequence[Source], dropped: Counter[str], held_out: set[str]) -> Iterator[Movie]:
    """Yields the movies of all sources. Of those with the same id only the first counts; `dropped` counts the others.

    Adds the words of the overviews of all validation and test movies to `held_out`, also those of copies: a movie may be
    measured with any of its overviews."""
    seen: set[str] = set()
    for movie in itertools.chain.from_iterable(map(read_movies, sources)):
        if split_of(movie.id) != "train":
            held_out.add(normalised(movie.overview))
        if movie.id in seen:
            dropped["id of an earlier movie"] += 1
        else:
            seen.add(movie.id)
            yield movie


class MovieSet:
    """Movies of exactly one split.

    Every movie for adaptation passes through here. The split must be train or validation, and each movie's id is checked
    against it."""

    def __init__(self, split: str, movies: Iterable[Movie]) -> None:
        if split not in ALLOWED_SPLITS:
            raise HeldOutMovieError(f"adaptation may use {' and '.join(ALLOWED_SPLITS)} movies, never {split}")
        self.split = split
        self.dropped: Counter[str] = Counter()
        self.movies = tuple(movies)
        for movie in self.movies:
            actual = split_of(movie.id)
            if actual != split:
                raise HeldOutMovieError(f"movie {movie.id} belongs to {actual}, not to {split}; adaptation rejects it")

    @classmethod
    def load(cls, sources: Sequence[Source], split: str) -> MovieSet:
        """Reads the movies of `split`: for train those of all sources, each overview once; for validation those of the first.

        Train movies with the overview of a validation or test movie of any source are dropped. `dropped` counts all that
        were dropped, by reason."""
        if split not in ALLOWED_SPLITS:
            raise HeldOutMovieError(f"adaptation may use {' and '.join(ALLOWED_SPLITS)} movies, never {split}")
        dropped: Counter[str] = Counter()
        if split == "validation":
            kept = [movie for movie in unique(sources[:1], dropped, set()) if split_of(movie.id) == split]
        else:
            kept, seen, candidates = [], set(), []
            for movie in unique(sources, dropped, seen):
                if split_of(movie.id) == split:
                    candidates.append(movie)
            held_out = frozenset(seen)
            for movie in candidates:
                words = normalised(movie.overview)
                if words in seen:
                    dropped[f"overview of {'a held-out' if words in held_out else 'an earlier'} movie"] += 1
                else:
                    seen.add(words)
                    kept.append(movie)
        movies = cls(split, kept)
        movies.dropped = dropped
        if not kept:
            raise DataError(f"{', '.join(str(s.path) for s in sources)}: expected movies of the {split} split, found none")
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

    def weights(self) -> np.ndarray:
        """Returns `[movies, 20]`, float32: what each label counts in the loss, 0 where it is unknown."""
        out = np.empty((len(self.movies), len(LABELS)), dtype=np.float32)
        for row, movie in enumerate(self.movies):
            out[row] = movie.weight
            out[row, list(movie.unknown)] = 0.0
        return out

    def digest(self) -> str:
        """Returns the sha256 of ids, texts, genres and weights, which identifies a run's training data."""
        digest = hashlib.sha256()
        for movie in self.movies:
            digest.update(repr((movie.id, movie.title, movie.overview, movie.genres, movie.weight, movie.unknown)).encode())
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
