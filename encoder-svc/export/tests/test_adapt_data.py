"""The movies of adaptation: several files, what their labels are worth, and no movie of the test split."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from export.adapt.data import LABELS, DataError, HeldOutMovieError, Movie, MovieSet, Source, split_of

FOREIGN, DRAMA = LABELS.index("Foreign"), LABELS.index("Drama")
Row = tuple[int, str, str]


def movie(number: int) -> Movie:
    return Movie(str(number), f"Movie {number}", "A pilot crosses the sea.", (DRAMA,))


def ids_of(split: str) -> list[int]:
    return [number for number in range(1, 400) if split_of(str(number)) == split]


def row(number: int, genre: int = 18, overview: str | None = None) -> Row:
    return number, f"Pilot {number} crosses the sea." if overview is None else overview, f"[{{'id': {genre}}}]"


def write(path: Path, rows: list[Row]) -> Source:
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "overview", "genres"])
        writer.writerows((number, f"Movie {number}", overview, genres) for number, overview, genres in rows)
    return Source(path)


@pytest.fixture
def data(tmp_path: Path) -> Source:
    return write(tmp_path / "movies_metadata.csv", [row(number) for number in range(1, 400)])


def test_split_rule_matches_the_trainer() -> None:
    """The trainer's test of its rule also uses 862 and 8844."""
    ids = (862, 8844, 11862, 13, 14, 15)
    assert [split_of(str(number)) for number in ids] == ["test", "train", "validation", "validation", "test", "train"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_set_contains_only_movies_of_its_split(data: Source, split: str) -> None:
    movies = MovieSet.load([data], split)
    assert [int(movie.id) for movie in movies.movies] == ids_of(split)
    assert not movies.dropped


def test_zeros_before_an_id_do_not_change_its_split(tmp_path: Path) -> None:
    padded = tmp_path / "padded.csv"
    genres = "[{'id': 18}]"
    rows = "".join(f'0{number},Movie,Pilot {number} crosses the sea.,"{genres}"\n' for number in range(1, 400))
    padded.write_text("id,title,overview,genres\n" + rows, encoding="utf-8")
    assert [movie.id for movie in MovieSet.load([Source(padded)], "train").movies] == list(map(str, ids_of("train")))


def test_rejects_loading_the_test_split(data: Source) -> None:
    with pytest.raises(HeldOutMovieError, match="never test"):
        MovieSet.load([data], "test")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rejects_a_test_movie_passed_as_another_split(split: str) -> None:
    smuggled = ids_of("test")[0]
    with pytest.raises(HeldOutMovieError, match=f"movie {smuggled} belongs to test"):
        MovieSet(split, [movie(ids_of(split)[0]), movie(smuggled)])


def test_train_has_the_movies_of_all_files_and_validation_those_of_the_first(data: Source, tmp_path: Path) -> None:
    more = write(tmp_path / "more.csv.gz", [row(number) for number in range(400, 800)])
    train = [int(movie.id) for movie in MovieSet.load([data, more], "train").movies]
    assert train == [number for number in range(1, 800) if split_of(str(number)) == "train"]
    validation = MovieSet.load([data, more], "validation").movies
    assert [int(movie.id) for movie in validation] == ids_of("validation")
    two = Source(more.path, rows=2)
    assert len(MovieSet.load([data, two], "train")) == len(ids_of("train")) + sum(split_of(i) == "train" for i in ("400", "401"))


def test_copies_are_dropped_and_counted(data: Source, tmp_path: Path) -> None:
    new = [number for number in range(400, 600) if split_of(str(number)) == "train"]
    first, test = ids_of("train")[0], ids_of("test")[0]
    more = write(
        tmp_path / "more.csv",
        [
            row(first, overview="Another text."),
            row(new[0], overview=f"PILOT {first} -- crosses the sea!"),
            row(new[1], overview=f"pilot {test} crosses the sea"),
            row(new[2]),
        ],
    )
    movies = MovieSet.load([data, more], "train")
    assert movies.dropped == {
        "id of an earlier movie": 1, "overview of an earlier movie": 1, "overview of a held-out movie": 1,
    }  # fmt: skip
    assert [int(movie.id) for movie in movies.movies] == [*ids_of("train"), new[2]]


def test_a_copy_of_a_test_movie_of_a_later_file_is_dropped(tmp_path: Path) -> None:
    train, test = ids_of("train")[:2], ids_of("test")[0]
    first = write(tmp_path / "first.csv", [row(train[0], overview="A ship sinks."), row(train[1])])
    later = write(tmp_path / "later.csv", [row(test, overview="A ship sinks.")])
    assert [int(movie.id) for movie in MovieSet.load([first, later], "train").movies] == [train[1]]


def test_the_overview_of_a_copy_of_a_test_movie_is_held_out_too(tmp_path: Path) -> None:
    train, test = ids_of("train")[:2], ids_of("test")[0]
    first = write(tmp_path / "first.csv", [row(test), row(train[0], overview="A ship sinks."), row(train[1])])
    later = write(tmp_path / "later.csv", [row(test, overview="A ship sinks.")])
    movies = MovieSet.load([first, later], "train")
    assert movies.dropped == {"id of an earlier movie": 1, "overview of a held-out movie": 1}
    assert [int(movie.id) for movie in movies.movies] == [train[1]]


def test_labels_that_a_file_does_not_know_and_weights_reach_the_loss(data: Source, tmp_path: Path) -> None:
    new = [number for number in range(400, 600) if split_of(str(number)) == "train"][:2]
    write(tmp_path / "more.csv", [row(new[0]), row(new[1], genre=10769)])
    more = Source.parse(f"{tmp_path / 'more.csv'},weight=0.5,unknown=Foreign+Drama")
    movies = MovieSet.load([data, more], "train")
    weights, known = movies.weights(), len(ids_of("train"))
    assert (weights[:known] == 1).all()
    # A genre that the movie has is known, also one that the file does not know.
    assert weights[known, DRAMA] == 0.5 and weights[known, FOREIGN] == 0
    assert weights[known + 1, FOREIGN] == 0.5 and weights[known + 1, DRAMA] == 0
    assert (weights[known:] == 0.5).sum() == 2 * (len(LABELS) - 1)
    assert movies.digest() != MovieSet.load([data, Source(more.path)], "train").digest()


def test_settings_follow_a_path_that_may_contain_commas() -> None:
    source = Source.parse("a,b.csv,rows=5,unknown=TV Movie,weight=2")
    assert source == Source(Path("a,b.csv"), 5, 2.0, (LABELS.index("TV Movie"),))
    assert str(source) == "a,b.csv,rows=5,weight=2,unknown=TV Movie"


@pytest.mark.parametrize("text", ["a.csv,rows=x", "a.csv,rows=-1", "a.csv,weight=0", "a.csv,unknown=Sport"])
def test_settings_that_make_no_sense_are_rejected(text: str) -> None:
    with pytest.raises(DataError, match=r"a\.csv.*expected"):
        Source.parse(text)
