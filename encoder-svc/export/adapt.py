#!/usr/bin/env python3
"""Teaches MiniLM films: adapts all-MiniLM-L6-v2 to genres on the train split, and writes what it learned as an adapter.

  adapt.py train           train a run folder to its end; an interrupted run resumes by itself
  adapt.py compress        turn one or several full runs into one of low rank, taught by their outputs
  adapt.py probe           fit an MLP on frozen vectors of a run or an adapter: the figure that counts in use
  adapt.py export-adapter  write a run as a small safetensors file (its form: the docstring of adapt_adapter.py)

A first time, with the base's two files in base/ and Kaggle's CSV at films.csv:

  pip install -r requirements-adapt.txt
  adapt.py train --data films.csv --base base --run runs/a
  adapt.py probe --data films.csv --base base --run runs/a
  adapt.py export-adapter --data films.csv --base base --run runs/a --output minilm-512-adapter.safetensors

Only films of the train and validation splits are ever used, and every choice is made on validation.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

import adapt_adapter
from adapt_adapter import AdapterError
from adapt_compress import Compressor, student_of
from adapt_data import SPLIT_RULE, TEXT_TEMPLATE, DataError, FilmSet
from adapt_eval import Figures, figures, fit_probe
from adapt_model import ACTIVATIONS, FilmEncoder
from adapt_train import CONFIG, Config, RunError, Texts, Trainer, encode, load_tokenizer, load_weights, new_model

PROBE_SEEDS = (0, 1, 2)

# What each setting of a run does: the help of 'adapt.py train'.
SETTINGS = {
    "mode": "full: all linear layers learn; lora: only low-rank branches beside them do",
    "rank": "rank of those branches (mode lora)",
    "activation": f"last step of the vector: {' or '.join(ACTIVATIONS)}",
    "objective": "bce, or asl: asymmetric, easy negatives weigh less",
    "asl_negative": "how much less: the power of the negative's probability",
    "label_smoothing": "share of each label that is replaced by 0.1",
    "epochs": "passes over the train split; a longer or shorter end may be given when resuming",
    "batch": "films a step",
    "max_tokens": "longest text seen in training (serving and validation: 256)",
    "learning_rate": "peak rate of the encoder's last layer",
    "new_learning_rate": "peak rate of projection and head",
    "layer_decay": "each layer further down learns by this factor slower",
    "weight_decay": "of weights, not of biases and norms",
    "warmup": "share of the steps over which rates rise",
    "final_lr": "share of the peak that is left at the end of the linear fall",
    "dropout": "inside the encoder",
    "head_dropout": "on the vector, before the linear head",
    "title_dropout": "share of the texts seen without their title",
    "word_dropout": "share of the tokens replaced by [MASK]",
    "rdrop": "weight of the agreement of two dropout passes (doubles the time); 0: off",
    "ema": "decay of the average of weights that is evaluated and exported",
    "seed": "of initial projection, order and dropout",
    "init_seed": "of the initial projection alone, so that runs can be averaged; -1: the seed",
    "teachers": "written by 'adapt.py compress'",
    "subset": "train on this many films only, for quick trials; 0: all",
}


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def load_texts(args: argparse.Namespace, split: str, max_tokens: int, subset: int = 0) -> tuple[FilmSet, Texts]:
    films = FilmSet.load(args.data, split)
    if subset:
        films = films.subset(subset)
    return films, Texts(films, load_tokenizer(args.base / "tokenizer.json", max_tokens))


def start_run(folder: Path, config: Config) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
    say(f"config {json.dumps(dataclasses.asdict(config))}")


def train(args: argparse.Namespace) -> None:
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Config) if getattr(args, f.name) is not None}
    if (args.run / CONFIG).is_file():
        stored = Config.read(args.run)
        config = dataclasses.replace(stored, **given)
        changed = [f.name for f in dataclasses.fields(Config) if getattr(config, f.name) != getattr(stored, f.name)]
        if set(changed) - {"epochs", "final_lr"}:
            raise RunError(f"{args.run} is a run with another {', '.join(changed)}; name a new folder with --run")
    else:
        config = Config(**given)
    start_run(args.run, config)
    films, learn = load_texts(args, "train", config.max_tokens, config.subset)
    _, check = load_texts(args, "validation", adapt_adapter.SERVED_TOKENS)
    say(f"train {len(films)} films, {learn.lengths.sum()} tokens; validation {len(check)} films")
    Trainer(
        config, new_model(config, args.base), args.run, learn, check, args.device, args.save_minutes, args.pause_file,
        args.evaluations, say,
    ).run()  # fmt: skip


def averaged(runs: list[Path], base: Path, which: str) -> tuple[Config, FilmEncoder, list[dict]]:
    """The mean of the weights of one or several runs that began at the same initial projection."""
    loaded = [load_weights(run, base, which) for run in runs]
    config, model, _ = loaded[0]
    for other, _, _ in loaded[1:]:
        if (other.activation, other.initial_seed) != (config.activation, config.initial_seed):
            raise RunError("runs can be averaged only if they share activation and initial seed (--init-seed)")
    own = model.state_dict()
    if any(name.endswith("lora_down") for name in own) and len(loaded) > 1:
        raise RunError("runs of mode lora cannot be averaged: the mean of factors is not the factors of the mean")
    others = [other.state_dict() for _, other, _ in loaded]
    model.load_state_dict({name: torch.stack([o[name].float() for o in others]).mean(0) for name in own})
    return config, model, [state for _, _, state in loaded]


def compress(args: argparse.Namespace) -> None:
    config, mean, _ = averaged(args.teacher, args.base, args.which)
    config = dataclasses.replace(
        config, mode="lora", rank=args.rank, epochs=args.epochs, learning_rate=args.learning_rate, layer_decay=1.0,
        new_learning_rate=args.learning_rate, dropout=0.0, head_dropout=0.0, word_dropout=args.word_dropout,
        rdrop=0.0, ema=0.98, teachers=",".join(folder.name for folder in args.teacher),
    )  # fmt: skip
    start_run(args.run, config)
    student = student_of(mean, adapt_adapter.fresh_base(args.base, config.activation), config.rank)
    _, learn = load_texts(args, "train", config.max_tokens)
    _, check = load_texts(args, "validation", adapt_adapter.SERVED_TOKENS)
    trainer = Compressor(
        config, student, args.run, learn, check, args.device, args.save_minutes, args.pause_file, args.evaluations, say
    )
    trainer.teachers = [load_weights(folder, args.base, args.which)[1].to(args.device) for folder in args.teacher]
    if trainer.step == 0:
        say("the truncated mean, before any step:")
        trainer.evaluate()
    trainer.run()


def probe_vectors(
    train: tuple[np.ndarray, np.ndarray], validation: np.ndarray, bare: np.ndarray, labels: np.ndarray, units: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean figures of a few probes on validation: with titles, and the same probes on texts without titles."""
    titled: list[Figures] = []
    untitled: list[Figures] = []
    for seed in PROBE_SEEDS:
        both = np.concatenate([validation, bare])
        probabilities = fit_probe(train, (validation, labels), both, units=units, seed=seed)
        titled.append(figures(probabilities[: len(labels)], labels))
        untitled.append(figures(probabilities[len(labels) :], labels))
        say(f"probe, {units} units, seed {seed}: {titled[-1].line()}")
    return mean_figures(titled), mean_figures(untitled)


def mean_figures(many: list[Figures]) -> dict[str, float]:
    return {name: round(float(np.mean([getattr(f, name) for f in many])), 5) for name in many[0].as_dict()}


def run_probe(args: argparse.Namespace, model: FilmEncoder, units: int) -> dict[str, dict[str, float]]:
    _, learn = load_texts(args, "train", adapt_adapter.SERVED_TOKENS)
    _, check = load_texts(args, "validation", adapt_adapter.SERVED_TOKENS)
    labels = check.labels.numpy()
    validation, _ = encode(model, check.titled)
    bare, _ = encode(model, check.bare)
    say(f"encoding {len(learn)} train films")
    vectors, _ = encode(model, learn.titled)
    titled, untitled = probe_vectors((vectors, learn.labels.numpy()), validation, bare, labels, units)
    say(f"mean of {len(PROBE_SEEDS)} probes: {titled}")
    say(f"the same without titles: {untitled}")
    return {"probe": titled, "probe_without_title": untitled}


def probe(args: argparse.Namespace) -> None:
    if args.adapter:
        model, _ = adapt_adapter.read(args.adapter, args.base)
    elif args.run:
        _, model, state = load_weights(args.run, args.base, args.which)
        say(f"step {state['step']}, its linear head: {state['figures']}")
    else:
        raise RunError("name what to probe: --run FOLDER or --adapter FILE")
    found = run_probe(args, model, args.units)
    print(json.dumps(found))


def export_adapter(args: argparse.Namespace) -> None:
    config, model, states = averaged(args.run, args.base, args.which)
    base = adapt_adapter.fresh_base(args.base, config.activation)
    rank = args.rank or config.rank
    films = FilmSet.load(args.data, "train")
    tensors = adapt_adapter.tensors_of(model, base, args.form, rank)
    _, check = load_texts(args, "validation", adapt_adapter.SERVED_TOKENS)
    adapt_adapter.merge(base, tensors)
    base.head.load_state_dict(model.head.state_dict())
    _, probabilities = encode(base, check.titled)
    found = figures(probabilities, check.labels.numpy())
    for state in states:
        say(f"the run itself, step {state['step']}, head on validation: {state['figures']}")
    say(f"as exported, head on validation: {found.as_dict()}")
    validation = {"head": found.as_dict(), "runs": [{"step": s["step"], "head": s["figures"]} for s in states]}
    if args.probe:
        validation |= run_probe(args, base, args.units)
    configs = [Config.read(run) for run in args.run]
    metadata = adapt_adapter.describe(
        base, args.base, args.form, rank, [dataclasses.asdict(c) for c in configs], films.digest(),
        (TEXT_TEMPLATE, "{overview}"), SPLIT_RULE, validation,
    )  # fmt: skip
    adapt_adapter.write(args.output, tensors, metadata)
    say(f"wrote {args.output}, {args.output.stat().st_size} bytes, sha256 {adapt_adapter.sha256_of(args.output)}")


def arguments() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="adapt.py", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
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
    learn.set_defaults(call=train)
    squeeze = commands.add_parser(
        "compress", parents=[common], help="turn full runs into one run of low rank", formatter_class=raw,
        description="The student starts as the mean of its teachers, truncated to low rank, and learns their vectors "
        "and probabilities on the train split. The folder is a run like any other: probe it, export it.",
    )  # fmt: skip
    squeeze.set_defaults(call=compress)
    squeeze.add_argument(
        "--teacher", type=Path, required=True, action="append",
        help="a full run's folder; several must share their initial seed (--init-seed)",
    )  # fmt: skip
    squeeze.add_argument("--which", choices=("best", "last"), default="last", help="of the teachers (default: last)")
    squeeze.add_argument("--rank", type=int, default=32, help="default: %(default)s")
    squeeze.add_argument("--epochs", type=float, default=0.75, help="default: %(default)s")
    squeeze.add_argument("--learning-rate", type=float, default=2e-4, help="default: %(default)s")
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
    check.set_defaults(call=probe)
    check.add_argument("--run", type=Path, help="a run's folder")
    check.add_argument("--adapter", type=Path, help="or an adapter file")
    export = commands.add_parser("export-adapter", parents=[common], help="write a run as an adapter file")
    export.set_defaults(call=export_adapter)
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


def main() -> int:
    args = arguments().parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        args.call(args)
    except (DataError, RunError, AdapterError) as error:
        print(f"adapt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("adapt: stopped; call it again to resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
