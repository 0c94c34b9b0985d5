"""Adapts all-MiniLM-L6-v2 to movie genres on the train split and writes the result as an adapter.

  python -m export.adapt train           train a run folder to the end; an interrupted run resumes
  python -m export.adapt from-adapter    turn an adapter into a run, to continue training or to use it as a teacher
  python -m export.adapt compress        distil one or several full runs into a low-rank run, or into one with fewer layers
  python -m export.adapt probe           fit an MLP on the frozen vectors of a run or an adapter, as the classifier does
  python -m export.adapt export-adapter  write a run as a small safetensors file (format: see adapt/adapter_file.py)

Example, with the base model's two files in base/ and Kaggle's CSV as movies.csv:

  pip install --no-deps --require-hashes -r requirements-adapt.txt
  python -m export.adapt train --data movies.csv --base base --run runs/a
  python -m export.adapt probe --data movies.csv --base base --run runs/a
  python -m export.adapt export-adapter --data movies.csv --base base --run runs/a --output minilm-512-adapter.safetensors

Only movies of the train and validation splits are used, and every choice is made on validation.
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

from export.adapt import adapter_file
from export.adapt.adapter_file import AdapterError
from export.adapt.arguments import arguments
from export.adapt.compress import Compressor, add_bridge, fit_bridge, student_of, student_of_layers
from export.adapt.data import SPLIT_RULE, TEXT_TEMPLATE, DataError, MovieSet, Source, pad
from export.adapt.evaluation import Figures, figures, fit_head, fit_probe
from export.adapt.model import MovieEncoder
from export.adapt.texts import Texts, Views, load_tokenizer
from export.adapt.train import CHECKPOINT, CONFIG, Bases, Config, RunError, Trainer, encode, load_weights, new_model, save_weights

PROBE_SEEDS = (0, 1, 2)
HEAD_MOVIES = 4000  # Enough for a linear head.
HEAD_VIEWS = Views(title_dropout=0.1, word_dropout=0.25)  # Unchanged texts, which the model has memorised, make the head overconfident.


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def sources(args: argparse.Namespace) -> list[Source]:
    return [Source.parse(text) for text in args.data]


def load_texts(args: argparse.Namespace, split: str, max_tokens: int, subset: int = 0) -> tuple[MovieSet, Texts]:
    movies = MovieSet.load(sources(args), split)
    if movies.dropped:
        say(f"{split}: dropped {', '.join(f'{count} with the {reason}' for reason, count in movies.dropped.items())}")
    if subset:
        movies = movies.subset(subset)
    return movies, Texts(movies, load_tokenizer(args.base / "tokenizer.json", max_tokens))


def start_run(folder: Path, config: Config) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
    say(f"config {json.dumps(dataclasses.asdict(config))}")


def train(args: argparse.Namespace) -> None:
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Config) if getattr(args, f.name, None) is not None}
    given["data"] = " ".join(map(str, sources(args)))
    if (args.run / CONFIG).is_file():
        stored = Config.read(args.run)
        config = dataclasses.replace(stored, **given)
        changed = [f.name for f in dataclasses.fields(Config) if getattr(config, f.name) != getattr(stored, f.name)]
        if set(changed) - {"epochs", "final_lr"}:
            raise RunError(f"{args.run} is a run with a different {', '.join(changed)}; name a new folder with --run")
    else:
        config = Config(**given)
    if args.start_run:
        config = dataclasses.replace(config, start=args.start_run.name)
    start_run(args.run, config)
    movies, learn = load_texts(args, "train", config.max_tokens, config.subset)
    _, check = load_texts(args, "validation", adapter_file.SERVED_TOKENS)
    say(f"train {len(movies)} movies, {learn.lengths.sum()} tokens; validation {len(check)} movies")
    model = new_model(config, args.bases)
    if args.start_run:
        model.load_state_dict(load_weights(args.start_run, args.bases, "best")[1].state_dict())
    trainer = Trainer(
        config, model, args.run, learn, check, args.device, args.save_minutes, args.pause_file, args.evaluations,
        args.workers, say,
    )  # fmt: skip
    trainer.run()


def from_adapter(args: argparse.Namespace) -> None:
    model, metadata = adapter_file.read(args.adapter, args.base)
    settings = json.loads(metadata["config"])[0]
    known = {name: settings[name] for name in ("activation", "init_seed") if name in settings}
    start_run(args.run, Config(start=args.adapter.name, layers=metadata.get("layers", ""), **known))
    _, learn = load_texts(args, "train", adapter_file.SERVED_TOKENS, HEAD_MOVIES)
    _, check = load_texts(args, "validation", adapter_file.SERVED_TOKENS)
    labels = check.labels
    validation, _ = encode(model, check.titled)
    model.multiply_in_bfloat16(True)
    rng = np.random.default_rng(0)
    rows = HEAD_VIEWS.rows(learn, np.arange(len(learn)), rng)
    ids, mask = pad(rows)
    ids = HEAD_VIEWS.masked(ids, mask, rng)
    vectors, _ = encode(model, [row[: len(original)].tolist() for row, original in zip(ids, rows, strict=True)])
    model.head, _ = fit_head(vectors, learn.labels, (validation, labels))
    model.multiply_in_bfloat16(False)
    _, probabilities = encode(model, check.titled)
    found = figures(probabilities, labels)
    say(f"the adapter under a new linear head: {found.line()}")
    save_weights(args.run, model, found)


def averaged(runs: list[Path], bases: Bases, which: str) -> tuple[Config, MovieEncoder, list[dict]]:
    """Returns the mean of the weights of one or several runs that share their initial projection."""
    loaded = [load_weights(run, bases, which) for run in runs]
    config, model, _ = loaded[0]
    for other, _, _ in loaded[1:]:
        settings = [(one.activation, one.initial_seed, one.architecture, one.kept_layers) for one in (config, other)]
        if settings[0] != settings[1]:
            raise RunError(
                "expected runs with the same activation, initial seed (--init-seed), architecture and layers, found different ones"
            )
    own = model.state_dict()
    if any(name.endswith("lora_down") for name in own) and len(loaded) > 1:
        raise RunError("runs of mode lora cannot be averaged, because the mean of factors is not the factors of the mean")
    others = [other.state_dict() for _, other, _ in loaded]
    model.load_state_dict({name: torch.stack([o[name].float() for o in others]).mean(0) for name in own})
    return config, model, [state for _, _, state in loaded]


def fresh_base(args: argparse.Namespace, config: Config) -> MovieEncoder:
    """Returns the published encoder with the layers of a run, which only MiniLM has."""
    if config.architecture != "minilm":
        raise RunError(f"expected a run of minilm, which is what bundles are made of, found one of {config.architecture}")
    return adapter_file.fresh_base(args.base, config.activation, config.kept_layers)


def compress(args: argparse.Namespace) -> None:
    config, mean, _ = averaged([args.student] if args.student else args.teacher, args.bases, args.which)
    if args.layers and len(config.kept_layers) != config.sizes.layers:
        raise RunError(f"--layers: expected a student with all layers, found one with the layers {config.layers}")
    config = dataclasses.replace(
        config, mode="full" if args.layers else "lora", rank=args.rank, layers=args.layers or config.layers,
        epochs=args.epochs, learning_rate=args.learning_rate, layer_decay=1.0,
        new_learning_rate=args.learning_rate, dropout=0.0, head_dropout=0.0, ema=args.ema, start="",
        tagline=args.tagline, cut=args.cut, word_dropout=args.word_dropout,
        bfloat16=args.bfloat16, seed=args.seed, teachers=",".join(folder.name for folder in args.teacher),
    )  # fmt: skip
    base = fresh_base(args, config)
    start_run(args.run, config)
    student = student_of_layers(mean, base) if args.layers else student_of(mean, base, config.rank)
    loaded = [load_weights(folder, args.bases, args.which) for folder in args.teacher]
    teachers = [teacher.to(args.device) for _, teacher, _ in loaded]
    for teacher in teachers:
        teacher.multiply_in_bfloat16(bool(config.bfloat16))
    _, learn = load_texts(args, "train", config.max_tokens)
    if any(settings.architecture != config.architecture for settings, _, _ in loaded):
        add_bridge(student)
        if not (args.run / CHECKPOINT).is_file():
            fit_bridge(student, teachers, learn.titled[:HEAD_MOVIES])
    _, check = load_texts(args, "validation", adapter_file.SERVED_TOKENS)
    trainer = Compressor(
        config, student, args.run, learn, check, args.device, args.save_minutes, args.pause_file, args.evaluations,
        args.workers, say,
    )  # fmt: skip
    trainer.teachers = teachers
    if trainer.step == 0:
        say("the truncated mean, before any step:")
        trainer.evaluate()
    trainer.run()


def probe_vectors(
    train: tuple[np.ndarray, np.ndarray], validation: np.ndarray, bare: np.ndarray, labels: np.ndarray, units: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the mean figures of several probes on validation, with titles and without."""
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


def run_probe(args: argparse.Namespace, model: MovieEncoder, units: int) -> dict[str, dict[str, float]]:
    _, learn = load_texts(args, "train", adapter_file.SERVED_TOKENS)
    _, check = load_texts(args, "validation", adapter_file.SERVED_TOKENS)
    labels = check.labels
    validation, _ = encode(model, check.titled)
    bare, _ = encode(model, check.bare)
    say(f"encoding {len(learn)} train movies")
    vectors, _ = encode(model, learn.titled)
    titled, untitled = probe_vectors((vectors, learn.labels), validation, bare, labels, units)
    say(f"mean of {len(PROBE_SEEDS)} probes: {titled}")
    say(f"the same without titles: {untitled}")
    return {"probe": titled, "probe_without_title": untitled}


def probe(args: argparse.Namespace) -> None:
    if args.adapter:
        model, _ = adapter_file.read(args.adapter, args.base)
    elif args.run:
        _, model, state = load_weights(args.run, args.bases, args.which)
        say(f"step {state['step']}, its linear head: {state['figures']}")
    else:
        raise RunError("expected --run FOLDER or --adapter FILE, found neither")
    found = run_probe(args, model, args.units)
    print(json.dumps(found))


def export_adapter(args: argparse.Namespace) -> None:
    config, model, states = averaged(args.run, args.bases, args.which)
    base = fresh_base(args, config)
    rank = args.rank or config.rank
    movies = MovieSet.load(sources(args), "train")
    tensors = adapter_file.tensors_of(model, base, args.form, rank)
    _, check = load_texts(args, "validation", adapter_file.SERVED_TOKENS)
    adapter_file.merge(base, tensors)
    base.head.load_state_dict(model.head.state_dict())
    _, probabilities = encode(base, check.titled)
    found = figures(probabilities, check.labels)
    for state in states:
        say(f"the run itself, step {state['step']}, head on validation: {state['figures']}")
    say(f"as exported, head on validation: {found.as_dict()}")
    validation = {"head": found.as_dict(), "runs": [{"step": s["step"], "head": s["figures"]} for s in states]}
    if args.probe:
        validation |= run_probe(args, base, args.units)
    configs = [Config.read(run) for run in args.run]
    metadata = adapter_file.describe(
        base, args.base, args.form, rank, [dataclasses.asdict(c) for c in configs], movies.digest(),
        (TEXT_TEMPLATE, "{overview}"), SPLIT_RULE, validation,
    )  # fmt: skip
    adapter_file.write(args.output, tensors, metadata)
    say(f"wrote {args.output}, {args.output.stat().st_size} bytes, sha256 {adapter_file.sha256_of(args.output)}")


COMMANDS = {
    "train": train, "from-adapter": from_adapter, "compress": compress, "probe": probe,
    "export-adapter": export_adapter,
}  # fmt: skip


def main() -> int:
    args = arguments(__doc__ or "").parse_args()
    args.bases = {"minilm": args.base, "mpnet": args.mpnet}
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        COMMANDS[args.command](args)
    except (DataError, RunError, AdapterError) as error:
        print(f"adapt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("adapt: stopped; run the same command again to resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
