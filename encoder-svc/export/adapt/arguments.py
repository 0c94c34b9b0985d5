"""The command line of `export.adapt`: its commands and the settings of a run."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import torch

from export.adapt.model import ACTIVATIONS, ARCHITECTURES
from export.adapt.train import Config

# The help texts of 'export.adapt train'.
SETTINGS = {
    "mode": "full: train all linear layers; lora: train only low-rank branches beside them",
    "rank": "rank of the branches in mode lora",
    "architecture": f"{' or '.join(ARCHITECTURES)}; mpnet, eight times the work, is a teacher for 'export.adapt compress'",
    "frozen_layers": "number of the lowest layers that do not learn, with the embeddings",
    "layers": "the base's layers that the encoder has, in ascending order; empty: all",
    "activation": f"final step of the vector: {' or '.join(ACTIVATIONS)}",
    "label_smoothing": "fraction of each label that is replaced by 0.1",
    "epochs": "passes over the train movies; may be changed when resuming",
    "batch": "movies a step",
    "max_tokens": "longest text seen in training (serving and validation: 256)",
    "bfloat16": "1: matrix products in bfloat16, faster with AVX-512 BF16; evaluation stays in float32",
    "learning_rate": "peak learning rate of the encoder's last layer",
    "new_learning_rate": "peak learning rate of projection and head",
    "layer_decay": "factor of the learning rate from each layer to the one below",
    "weight_decay": "weight decay of weights; biases and norms have none",
    "warmup": "fraction of the steps over which the learning rate rises",
    "final_lr": "fraction of the peak at the end of the linear decay",
    "dropout": "dropout inside the encoder",
    "head_dropout": "dropout on the vector, before the linear head",
    "title_dropout": "fraction of the texts shown without their title",
    "tagline": "fraction of the texts shown with the movie's tagline, if it has one",
    "cut": "fraction of the batches whose texts each lose a run of 15 to 45 % of their tokens",
    "word_dropout": "fraction of the tokens replaced by [MASK]",
    "ema": "decay of the averaged weights, which are evaluated and exported",
    "seed": "seed of initial projection, order and dropout",
    "init_seed": "seed of the initial projection, which averaged runs must share; -1: use --seed",
    "start": "set by --start-run: the run that provides the initial weights",
    "teachers": "set by 'export.adapt compress'",
    "subset": "number of movies to train on, for quick trials; 0: all",
}


def arguments(description: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m export.adapt", description=description, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data", required=True, action="append", metavar="FILE[,rows=N][,weight=W][,unknown=LABEL+LABEL]",
        help="Kaggle's movies_metadata.csv, or a file with its columns (repeatable; .gz is read). Runs train on the train "
        "movies of all files and are measured on the validation movies of the first. rows: read that many records; weight: of "
        "each movie in the loss; unknown: genres that the file does not know, so that their absence says nothing",
    )  # fmt: skip
    common.add_argument("--base", type=Path, required=True, help="folder with model.safetensors and tokenizer.json")
    common.add_argument("--mpnet", type=Path, help="folder with model.safetensors of all-mpnet-base-v2, for runs of that architecture")
    common.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's choice)")

    learn = commands.add_parser(
        "train", parents=[common], help="train a run folder to the end (resumes)", formatter_class=raw,
        description="Train the run in a folder to the end. Its settings are saved as config.json; calling it "
        "again with the same folder resumes from its checkpoint, and settings left out are the stored ones. After each "
        "evaluation best.pt and last.pt hold averaged weights and log.jsonl a line of validation figures.",
    )  # fmt: skip
    learn.add_argument("--start-run", type=Path, help="start with the best weights of this run instead of the base's")
    revive = commands.add_parser("from-adapter", parents=[common], help="turn an adapter into a run")
    revive.add_argument("--adapter", type=Path, required=True, help="the adapter's file")
    revive.add_argument("--run", type=Path, required=True, help="the folder to create")
    squeeze = commands.add_parser(
        "compress", parents=[common], help="distil full runs into a smaller one", formatter_class=raw,
        description="The student starts as the mean of its teachers, truncated to low rank or to --layers, and learns their "
        "vectors and probabilities on the train split, whose labels it never sees. The folder is a run like any other: probe it, export it.",
    )  # fmt: skip
    squeeze.add_argument(
        "--teacher", type=Path, required=True, action="append",
        help="folder of a full run (repeatable; all must share --init-seed)",
    )  # fmt: skip
    squeeze.add_argument("--which", choices=("best", "last"), default="last", help="of the teachers (default: last)")
    squeeze.add_argument("--rank", type=int, default=32, help="of the low-rank changes (default: %(default)s)")
    squeeze.add_argument(
        "--student", type=Path, help="folder of a full run to start from, for teachers of another architecture (default: their mean)"
    )  # fmt: skip
    squeeze.add_argument(
        "--layers", default="", help="keep these of the student's layers, such as 0,2,5 or 0,1,2,3,4,5, and train them in full"
    )  # fmt: skip
    squeeze.add_argument("--epochs", type=float, default=0.75, help="default: %(default)s")
    squeeze.add_argument("--learning-rate", type=float, default=2e-4, help="default: %(default)s")
    squeeze.add_argument("--ema", type=float, default=0.98, help="default: %(default)s")
    squeeze.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    for name in ("tagline", "cut", "bfloat16"):
        kind = type(getattr(Config, name))
        squeeze.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=kind(0), help=f"{SETTINGS[name].replace('%', '%%')}"
        )
    squeeze.add_argument(
        "--word-dropout", type=float, default=0.1,
        help="share of the tokens that teachers and student see as [MASK]: other texts than the teachers know by heart "
        "(default: %(default)s)",
    )  # fmt: skip
    for command in (learn, squeeze):
        command.add_argument("--run", type=Path, required=True, help="the run's folder, created if missing")
        command.add_argument(
            "--device",
            default="cuda" if torch.cuda.is_available() else "cpu",
            help="cpu or cuda (default: %(default)s)",
        )
        command.add_argument(
            "--workers", type=int, default=len(os.sched_getaffinity(0)),
            help="threads that each compute the gradient of a part of a batch (default: %(default)s, the cores; on a GPU one)",
        )  # fmt: skip
        command.add_argument(
            "--save-minutes", type=float, default=5.0, help="minutes between checkpoints (default: %(default)s)"
        )
        command.add_argument("--evaluations", type=int, default=2, help="evaluations per epoch (default: %(default)s)")
        command.add_argument(
            "--pause-file", type=Path, default=Path(".runtime/adapt-pause"),
            help="training pauses while this file exists (default: %(default)s)",
        )  # fmt: skip
    settings = learn.add_argument_group("settings of the run, saved in its folder")
    for field in dataclasses.fields(Config):
        if field.name == "data":
            continue
        settings.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=None,
            help=f"{SETTINGS[field.name].replace('%', '%%')} (default: {field.default})",
        )  # fmt: skip

    check = commands.add_parser("probe", parents=[common], help="fit an MLP on frozen vectors and report validation figures")
    check.add_argument("--run", type=Path, help="a run's folder")
    check.add_argument("--adapter", type=Path, help="an adapter file instead of a run")
    export = commands.add_parser("export-adapter", parents=[common], help="write a run as an adapter file")
    export.add_argument(
        "--run", type=Path, required=True, action="append",
        help="folder of a run (repeatable; the weights are averaged)",
    )  # fmt: skip
    export.add_argument("--output", type=Path, required=True, help="the safetensors file to write")
    export.add_argument("--form", choices=("low-rank", "delta-int8"), default="low-rank", help="default: %(default)s")
    export.add_argument("--rank", type=int, default=0, help="rank of the form low-rank (default: the run's rank)")
    export.add_argument("--probe", action="store_true", help="also probe the adapter and store the figures in its metadata")
    for command in (check, export):
        command.add_argument("--which", choices=("best", "last"), default="best", help="which weights: best on validation, or last")
        command.add_argument("--units", type=int, default=256, help="width of the probe (default: %(default)s)")
    return parser
