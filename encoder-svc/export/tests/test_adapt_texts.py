"""Random views of texts in training."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.adapt.data import Movie, MovieSet, split_of
from export.adapt.texts import MASK_ID, Texts, Views, without_a_run
from export.tools.tiny_bundle import tokenizer_json, vocabulary

CLS, SEP = 101, 102


def texts(count: int = 8) -> Texts:
    ids = [str(number) for number in range(1, 400) if split_of(str(number)) == "train"][:count]
    movies = [
        Movie(id, "Movie", "A pilot crosses the sea.", (6,), "He flies." if i % 2 else "") for i, id in enumerate(ids)
    ]
    return Texts(MovieSet("train", movies), Tokenizer.from_str(tokenizer_json(vocabulary()).decode()))


def test_default_view_is_the_served_text() -> None:
    learn = texts()
    movies = np.array([3, 1])
    assert Views().rows(learn, movies, np.random.default_rng(0)) == [learn.titled[3], learn.titled[1]]


def test_tagline_is_shown_only_if_the_movie_has_one() -> None:
    learn = texts()
    rows = Views(tagline=1.0).rows(learn, np.arange(8), np.random.default_rng(0))
    assert [rows[i] == learn.titled[i] for i in range(8)] == [True, False] * 4
    assert rows[1] == learn.tagged[1]


@pytest.mark.parametrize("share", [0.15, 0.45, 1.0])
@pytest.mark.parametrize("words", [0, 1, 2, 50])
def test_cut_text_keeps_its_ends_and_its_order(share: float, words: int) -> None:
    row = [CLS, *range(2000, 2000 + words), SEP]
    cut = without_a_run(row, share, np.random.default_rng(1))
    assert (cut[0], cut[-1]) == (CLS, SEP)
    assert len(row) - len(cut) == int(words * share)
    assert cut == sorted(cut[:-1]) + [SEP]


def test_masks_only_words() -> None:
    ids = np.array([[CLS, 2000, 2001, SEP, 0]])
    masked = Views(word_dropout=1.0).masked(ids, ids > 0, np.random.default_rng(0))
    assert masked.tolist() == [[CLS, MASK_ID, MASK_ID, SEP, 0]]


def test_same_seed_gives_the_same_view() -> None:
    learn, movies, views = texts(), np.arange(8), Views(0.5, 0.5, 0.5, 0.5)
    first, again = (views.rows(learn, movies, np.random.default_rng(4)) for _ in range(2))
    assert first == again
