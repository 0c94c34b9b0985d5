"""The command line of `export.adapt`: its commands, and what each setting of a run does."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from export.adapt.model import ACTIVATIONS
from export.adapt.train import Config

# The help of 'export.adapt train'.
SETTINGS = {
    "mode": "full: all linear layers learn; lora: only low-rank branches beside them do",
    "rank": "rank of those branches (mode lora)",
    "activation": f"last step of the vector: {' or '.join(ACTIVATIONS)}",
    "objective": "bce, or asl: asymmetric, easy negatives weigh less",
    "asl_negative": "how much less: the power of the negative's probability",
    "label_smoothing": "share of each label that is replaced by 0.1",
    "epochs": "passes over the train split; a longer or shorter end may be given when resuming",
    "batch": "movies a step",
    "max_tokens": "longest text seen in training (serving and validation: 256)",
    "bfloat16": "1: matrix products in bfloat16, 1.7 times as fast with AVX-512 BF16; evaluation stays float32",
    "learning_rate": "peak rate of the encoder's last layer",
    "new_learning_rate": "peak rate of projection and head",
    "layer_decay": "each layer further down learns by this factor slower",
    "weight_decay": "of weights, not of biases and norms",
    "warmup": "share of the steps over which rates rise",
    "final_lr": "share of the peak that is left at the end of the linear fall",
    "dropout": "inside the encoder",
    "head_dropout": "on the vector, before the linear head",
    "title_dropout": "share of the texts seen without their title",
    "tagline": "share of the texts seen with the movie's tagline, where it has one",
    "cut": "share of the batches whose texts each lose a run of 15 to 45 % of their tokens",
    "word_dropout": "share of the tokens replaced by [MASK]",
    "rdrop": "weight of the agreement of two dropout passes (doubles the time); 0: off",
    "ema": "decay of the average of weights that is evaluated and exported",
    "seed": "of initial projection, order and dropout",
    "init_seed": "of the initial projection alone, so that runs can be averaged; -1: the seed",
    "start": "written by --start-run: the run whose weights this one began with",
    "teachers": "written by 'export.adapt compress'",
    "subset": "train on this many movies only, for quick trials; 0: all",
}


def arguments(description: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m export.adapt", description=description, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, required=True, help="Kaggle's movies_metadata.csv")
    common.add_argument("--base", type=Path, required=True, help="folder with model.safetensors and tokenizer.json")
    common.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's choice)")

    learn = commands.add_parser(
        "train", parents=[common], help="train a run folder to its end (resumes)", formatter_class=raw,
        description="Train the run in a folder to its end. The settings are saved there as config.json; calling it "
        "again with the same folder resumes from its checkpoint, and settings left out are the stored ones. After each "
        "evaluation best.pt and last.pt hold averaged weights and log.jsonl a line of validation figures.",
    )  # fmt: skip
    learn.add_argument("--start-run", type=Path, help="begin with the best weights of this run, not with the base's")
    revive = commands.add_parser("from-adapter", parents=[common], help="make an adapter a run again")
    revive.add_argument("--adapter", type=Path, required=True, help="the adapter's file")
    revive.add_argument("--run", type=Path, required=True, help="the folder to make")
    squeeze = commands.add_parser(
        "compress", parents=[common], help="turn full runs into one run of low rank", formatter_class=raw,
        description="The student starts as the mean of its teachers, truncated to low rank, and learns their vectors "
        "and probabilities on the train split. The folder is a run like any other: probe it, export it.",
    )  # fmt: skip
    squeeze.add_argument(
        "--teacher", type=Path, required=True, action="append",
        help="a full run's folder; several must share their initial seed (--init-seed)",
    )  # fmt: skip
    squeeze.add_argument("--which", choices=("best", "last"), default="last", help="of the teachers (default: last)")
    squeeze.add_argument("--rank", type=int, default=32, help="default: %(default)s")
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
        command.add_argument("--run", type=Path, required=True, help="the run's folder, made if need be")
        command.add_argument(
            "--device",
            default="cuda" if torch.cuda.is_available() else "cpu",
            help="cpu or cuda (default: %(default)s)",
        )
        command.add_argument(
            "--save-minutes", type=float, default=5.0, help="between checkpoints (default: %(default)s)"
        )
        command.add_argument("--evaluations", type=int, default=2, help="evaluations an epoch (default: %(default)s)")
        command.add_argument(
            "--pause-file", type=Path, default=Path(".runtime/adapt-pause"),
            help="training waits while this file exists (default: %(default)s)",
        )  # fmt: skip
    settings = learn.add_argument_group("settings of the run, saved with it")
    for field in dataclasses.fields(Config):
        settings.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=None,
            help=f"{SETTINGS[field.name].replace('%', '%%')} (default: {field.default})",
        )  # fmt: skip

    check = commands.add_parser("probe", parents=[common], help="fit an MLP on frozen vectors, report validation")
    check.add_argument("--run", type=Path, help="a run's folder")
    check.add_argument("--adapter", type=Path, help="or an adapter file")
    export = commands.add_parser("export-adapter", parents=[common], help="write a run as an adapter file")
    export.add_argument(
        "--run", type=Path, required=True, action="append",
        help="a run's folder; given several times, their weights are averaged",
    )  # fmt: skip
    export.add_argument("--output", type=Path, required=True, help="the safetensors file to write")
    export.add_argument("--form", choices=("low-rank", "delta-int8"), default="low-rank", help="default: %(default)s")
    export.add_argument("--rank", type=int, default=0, help="rank kept in form low-rank (default: the run's own)")
    export.add_argument("--probe", action="store_true", help="also probe it, for the figures in its metadata")
    for command in (check, export):
        command.add_argument("--which", choices=("best", "last"), default="best", help="best on validation, or last")
        command.add_argument("--units", type=int, default=256, help="width of the probe (default: %(default)s)")
    return parser
