"""No movie of the test split can reach adaptation."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from export.adapt.data import HeldOutMovieError, Movie, MovieSet, split_of


def movie(number: int) -> Movie:
    return Movie(str(number), f"Movie {number}", "A pilot crosses the sea.", (6,))


def ids_of(split: str) -> list[int]:
    return [number for number in range(1, 400) if split_of(str(number)) == split]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "movies_metadata.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "overview", "genres"])
        for number in range(1, 400):
            writer.writerow([number, f"Movie {number}", "A pilot crosses the sea.", "[{'id': 18, 'name': 'Drama'}]"])
    return path


def test_split_rule_matches_the_trainer() -> None:
    """The trainer's test of its rule also uses 862 and 8844."""
    ids = (862, 8844, 11862, 13, 14, 15)
    assert [split_of(str(number)) for number in ids] == ["test", "train", "validation", "validation", "test", "train"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_set_contains_only_movies_of_its_split(data: Path, split: str) -> None:
    movies = MovieSet.load(data, split)
    assert [int(movie.id) for movie in movies.movies] == ids_of(split)


def test_rejects_loading_the_test_split(data: Path) -> None:
    with pytest.raises(HeldOutMovieError, match="never test"):
        MovieSet.load(data, "test")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rejects_a_test_movie_passed_as_another_split(split: str) -> None:
    smuggled = ids_of("test")[0]
    with pytest.raises(HeldOutMovieError, match=f"movie {smuggled} belongs to test"):
        MovieSet(split, [movie(ids_of(split)[0]), movie(smuggled)])
