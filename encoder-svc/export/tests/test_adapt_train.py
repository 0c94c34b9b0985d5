"""A step's gradients and the checkpoint of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

torch = pytest.importorskip("torch")

from export.adapt.data import LABELS, Movie, MovieSet, split_of  # noqa: E402
from export.adapt.model import MovieEncoder  # noqa: E402
from export.adapt.texts import Texts  # noqa: E402
from export.adapt.train import Config, Trainer  # noqa: E402
from export.tools.tiny_bundle import tokenizer_json, vocabulary  # noqa: E402

UNKNOWN = LABELS.index("Foreign")
CONFIG = Config(batch=6, epochs=1.0, dropout=0.0, head_dropout=0.0, title_dropout=0.0)


def texts() -> Texts:
    ids = [str(number) for number in range(1, 40) if split_of(str(number)) == "train"][:7]
    words = ["A pilot crosses the sea.", "The ship.", "A quiet sea and a pilot of the ship."]
    movies = [
        Movie(id, "Movie", words[i % 3], (i,), weight=1.0 + i % 2, unknown=(UNKNOWN,) if i % 2 else ())
        for i, id in enumerate(ids)
    ]
    return Texts(MovieSet("train", movies), Tokenizer.from_str(tokenizer_json(vocabulary()).decode()))


def trainer(folder: Path, config: Config = CONFIG, workers: int = 1, lines: list[str] | None = None) -> Trainer:
    torch.manual_seed(1)
    model = MovieEncoder(len(LABELS), config.activation, config.dropout, config.head_dropout)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # Otherwise the base's.
            torch.nn.init.normal_(parameter, std=0.05)
    report = (lines if lines is not None else []).append
    return Trainer(config, model, folder, texts(), texts(), "cpu", 5, folder / "pause", 1, workers, report)


def gradients(trainer: Trainer) -> list[torch.Tensor]:
    trainer._set_gradients(trainer._batch(np.arange(6), np.random.default_rng(0)))
    return [parameter.grad for parameter in trainer.live]


@pytest.mark.parametrize("workers", [2, 3, 16])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(tmp_path: Path, workers: int) -> None:
    for whole, parts in zip(gradients(trainer(tmp_path)), gradients(trainer(tmp_path, workers=workers)), strict=True):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


def test_an_unknown_label_has_no_gradient(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.weights[:, UNKNOWN] = 0
    gradients(run)
    assert not run.model.head.weight.grad[UNKNOWN].any()
    assert run.model.head.weight.grad[UNKNOWN - 1].any()


def test_a_run_continues_at_its_checkpoint(tmp_path: Path) -> None:
    first, longer = trainer(tmp_path), dataclasses.replace(CONFIG, epochs=2.0)
    first.run()
    assert first.step == 2
    lines: list[str] = []
    second = trainer(tmp_path, longer, lines=lines)
    assert second.step == 2 and lines == ["resumed at step 2 of 4"]
    for mine, stored in zip(second.live, first.live, strict=True):
        assert torch.equal(mine, stored)
    second.run()
    assert second.step == 4
