"""The training loop: configuration, steps, weight averaging, checkpoints and resuming."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from export.adapt.data import LABELS, length_bucketed, pad
from export.adapt.evaluation import Figures, figures
from export.adapt.model import ARCHITECTURES, Architecture, MovieEncoder, adapted_names
from export.adapt.texts import Texts, Views
from export.minilm.weights import parse_layers

CONFIG, CHECKPOINT, BEST, LOG = "config.json", "checkpoint.pt", "best.pt", "log.jsonl"


# The folder with model.safetensors of each architecture's base, as far as it is known.
Bases = Mapping[str, Path | None]
BRIDGE = "bridge"  # The part of a student that only distillation needs, see compress.py.


class RunError(Exception):
    """The run cannot continue. The message says why and what to do."""


@dataclass(frozen=True)
class Config:
    """The settings that determine what a run learns, saved as config.json beside its checkpoint."""

    mode: str = "full"  # full | lora
    rank: int = 16  # Of the low-rank branches in mode lora.
    architecture: str = "minilm"  # Or mpnet, which is for teachers.
    layers: str = ""  # Of the base's; none named: all.
    frozen_layers: int = 0
    activation: str = "tanh"
    label_smoothing: float = 0.0
    epochs: float = 3.0
    batch: int = 32
    max_tokens: int = 160
    bfloat16: int = 0
    learning_rate: float = 1e-4
    new_learning_rate: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.06
    final_lr: float = 0.0  # Fraction of the peak at the end.
    dropout: float = 0.1
    head_dropout: float = 0.2
    title_dropout: float = 0.1
    tagline: float = 0.0
    cut: float = 0.0
    word_dropout: float = 0.0
    ema: float = 0.998
    seed: int = 0
    init_seed: int = -1
    subset: int = 0
    data: str = ""  # The sources, by file name.
    start: str = ""  # Name of the run that provided the initial weights.
    teachers: str = ""  # Names of the teachers of a compressed run.

    @property
    def initial_seed(self) -> int:
        return self.seed if self.init_seed < 0 else self.init_seed

    @property
    def sizes(self) -> Architecture:
        try:
            return ARCHITECTURES[self.architecture]
        except KeyError:
            names = " or ".join(ARCHITECTURES)
            raise RunError(f"--architecture: expected {names}, found {self.architecture!r}") from None

    @property
    def kept_layers(self) -> tuple[int, ...]:
        count = self.sizes.layers
        try:
            return parse_layers(self.layers, count) if self.layers else tuple(range(count))
        except ValueError as error:
            raise RunError(f"--layers: {error}") from error

    @property
    def views(self) -> Views:
        return Views(self.title_dropout, self.tagline, self.cut, self.word_dropout)

    @classmethod
    def read(cls, folder: Path) -> Config:
        try:
            stored = json.loads((folder / CONFIG).read_text())
        except OSError as error:
            raise RunError(f"{folder}: expected a run ({CONFIG}: {error.strerror}); 'export.adapt train' creates one") from error
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})


def new_model(config: Config, bases: Bases) -> MovieEncoder:
    """Returns a model with the weights of its architecture's base and a new projection and head."""
    base = bases[config.architecture]
    if base is None:
        raise RunError(f"the run needs the weights of {config.architecture}; name their folder with --{config.architecture}")
    torch.manual_seed(config.initial_seed)
    model = MovieEncoder(
        len(LABELS), config.activation, config.dropout, config.head_dropout, config.kept_layers, config.sizes
    )  # fmt: skip
    model.load_base(base / "model.safetensors")
    if config.frozen_layers:
        for frozen in (model.embeddings, *model.encoder.layer[: config.frozen_layers]):
            frozen.requires_grad_(False)
    if config.mode == "lora":
        for name in adapted_names(len(model.layers)):
            model.get_submodule(name).add_low_rank(config.rank)
    return model


def parameter_groups(model: MovieEncoder, config: Config) -> list[dict]:
    """Returns parameter groups with layer-wise learning rates (later layers learn faster). Biases and norms do not decay."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith(("projection", "head", BRIDGE)):
            rate = config.new_learning_rate
        else:
            depth = int(name.split(".")[2]) + 1 if name.startswith("encoder.layer") else 0
            rate = config.learning_rate * config.layer_decay ** (len(model.layers) - depth)
            if config.mode == "lora" and "lora_" not in name:
                rate *= 0.2  # Biases and norms should move less than new branches.
        decay = 0.0 if parameter.ndim == 1 or "lora_" in name else config.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": r, "peak": r, "weight_decay": d} for (r, d), p in groups.items()]


def loss_of(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Returns the sum of the binary cross-entropies of labels `[movies, genres]`, each times its weight."""
    if smoothing:
        labels = labels * (1 - smoothing) + 0.1 * smoothing
    return F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="sum")


@torch.no_grad()
def encode(model: MovieEncoder, rows: list[list[int]], batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vectors and probabilities of all rows in order, without dropout."""
    was = model.training
    model.eval()
    device = next(model.parameters()).device
    order = np.argsort([len(row) for row in rows], kind="stable")
    vectors = np.zeros((len(rows), model.projection.out_features), dtype=np.float32)
    probabilities = np.zeros((len(rows), model.head.out_features), dtype=np.float32)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        ids, mask = (torch.from_numpy(a).to(device) for a in pad([rows[i] for i in part]))
        vector = model.vector(model.pool(ids, mask))
        vectors[part] = vector.cpu().numpy()
        probabilities[part] = torch.sigmoid(model.logits(vector)).cpu().numpy()
    model.train(was)
    return vectors, probabilities


class Average:
    """An exponential moving average of the trainable parameters, used for every evaluation and export."""

    def __init__(self, model: MovieEncoder, decay: float) -> None:
        self.live = [p for p in model.parameters() if p.requires_grad]
        self.decay, self.updates = decay, 0
        self.values = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Swaps averaged and live values. A second call swaps them back."""
        for live, value in zip(self.live, self.values, strict=True):
            held = live.detach().clone()
            live.copy_(value)
            value.copy_(held)


def _save(path: Path, content: dict) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


class Trainer:
    """A run in a folder. `run` trains the model to the end, starting at the folder's checkpoint if there is one."""

    def __init__(
        self, config: Config, model: MovieEncoder, folder: Path, train: Texts, validation: Texts, device: str,
        save_minutes: float, pause_file: Path, evaluations: int, workers: int = 1, report=print,
    ) -> None:  # fmt: skip
        self.config, self.folder, self.train_set, self.validation = config, folder, train, validation
        self.targets, self.weights = torch.from_numpy(train.labels), torch.from_numpy(train.weights)
        self.views = config.views
        self.save_minutes, self.pause_file = save_minutes, pause_file
        self.evaluations, self.report = evaluations, report
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.live = [p for p in self.model.parameters() if p.requires_grad]
        # Threads that share a matrix product wait for each other at the end of every one, which on a busy machine costs half of
        # the time. Workers with a part of the batch each wait once a step.
        self.workers = max(1, workers) if self.device.type == "cpu" else 1
        self.pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) if self.workers > 1 else None
        self.model.multiply_in_bfloat16(bool(config.bfloat16))
        torch.manual_seed(config.seed)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config), betas=(0.9, 0.98), fused=self.device.type == "cpu"
        )
        self.average = Average(self.model, config.ema)
        self.per_epoch = -(-len(train) // config.batch)
        self.total = round(config.epochs * self.per_epoch)
        self.step, self.best = 0, -1.0
        if (folder / CHECKPOINT).is_file():
            self._restore()

    def _restore(self) -> None:
        state = torch.load(self.folder / CHECKPOINT, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        for value, stored in zip(self.average.values, state["average"], strict=True):
            value.copy_(stored)
        self.average.updates, self.step, self.best = state["updates"], state["step"], state["best"]
        torch.set_rng_state(state["rng"].cpu())
        self.report(f"resumed at step {self.step} of {self.total}")

    def _trainable(self) -> dict[str, Tensor]:
        live = {n for n, p in self.model.named_parameters() if p.requires_grad}
        return {n: t.detach().clone() for n, t in self.model.state_dict().items() if n in live}

    def save(self) -> None:
        _save(
            self.folder / CHECKPOINT,
            {
                "model": self._trainable(), "optimizer": self.optimizer.state_dict(), "average": self.average.values,
                "updates": self.average.updates, "step": self.step, "best": self.best, "rng": torch.get_rng_state(),
            },
        )  # fmt: skip

    def evaluate(self) -> Figures:
        """Returns the figures of the averaged weights on validation. Writes best.pt and last.pt."""
        self.average.swap()
        self.model.multiply_in_bfloat16(False)
        _, probabilities = encode(self.model, self.validation.titled)
        self.model.multiply_in_bfloat16(bool(self.config.bfloat16))
        found = figures(probabilities, self.validation.labels)
        content = {"model": self._trainable(), "step": self.step, "figures": found.as_dict()}
        _save(self.folder / "last.pt", content)
        if found.micro_f1 > self.best:
            self.best = found.micro_f1
            _save(self.folder / BEST, content)
        self.average.swap()
        entry = {"step": self.step, "epoch": round(self.step / self.per_epoch, 3), **found.as_dict()}
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        self.report(f"epoch {self.step / self.per_epoch:.2f}  validation (averaged weights): {found.line()}")
        return found

    def _rate(self) -> float:
        warm = max(1, round(self.config.warmup * self.total))
        if self.step < warm:
            return (self.step + 1) / warm
        left = (self.total - self.step) / max(1, self.total - warm)
        return self.config.final_lr + (1 - self.config.final_lr) * left

    def _batch(self, movies: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ids, mask = pad(self.views.rows(self.train_set, movies, rng))
        ids = self.views.masked(ids, mask, rng)
        rows = torch.from_numpy(movies)
        tensors = torch.from_numpy(ids), torch.from_numpy(mask), self.targets[rows], self.weights[rows]
        return tuple(tensor.to(self.device) for tensor in tensors)

    def _loss(self, ids: Tensor, mask: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Returns the loss of movies, summed over movies and genres."""
        return loss_of(self.model(ids, mask), labels, weights, self.config.label_smoothing)

    def _set_gradients(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> float:
        """Sets the gradient of each parameter to that of the mean loss of a batch, which it returns."""
        total = batch[3].sum()

        def part(first: int) -> tuple[float, tuple[Tensor, ...]]:
            loss = self._loss(*(tensor[first :: self.workers] for tensor in batch)) / total
            return loss.item(), torch.autograd.grad(loss, self.live)

        parts = range(min(self.workers, len(batch[0])))
        (loss, gradients), *others = self.pool.map(part, parts) if self.pool else map(part, parts)
        for other, more in others:
            loss += other
            torch._foreach_add_(gradients, more)
        for parameter, gradient in zip(self.live, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def run(self) -> None:
        every = max(1, self.per_epoch // self.evaluations)
        saved = reported = time.monotonic()
        reported_step, losses = self.step, []
        self.model.train()
        epoch, batches = -1, []
        while self.step < self.total:
            if self.pause_file.exists():
                self.report(f"paused while {self.pause_file} exists")
                while self.pause_file.exists():
                    time.sleep(1)
                reported, reported_step = time.monotonic(), self.step
            if self.step // self.per_epoch != epoch:
                epoch = self.step // self.per_epoch
                batches = length_bucketed(self.train_set.lengths, self.config.batch, self.config.seed * 1009 + epoch)
            rng = np.random.default_rng((self.config.seed, self.step))
            batch = self._batch(batches[self.step % self.per_epoch], rng)
            scale = self._rate()
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * scale
            losses.append(self._set_gradients(batch))
            torch.nn.utils.clip_grad_norm_(self.live, 1.0)
            self.optimizer.step()
            self.average.update()
            self.step += 1
            now = time.monotonic()
            if now - reported > 30:
                speed = (self.step - reported_step) / (now - reported)
                self.report(
                    f"step {self.step}/{self.total}  loss {np.mean(losses):.4f}  {speed:.2f} steps/s  "
                    f"ETA {(self.total - self.step) / speed / 60:.0f} min"
                )
                reported, reported_step, losses = now, self.step, []
            if self.step % every == 0 or self.step == self.total:
                self.evaluate()
                self.save()
                saved = time.monotonic()
            elif now - saved > self.save_minutes * 60:
                self.save()
                saved = now
        self.report(f"done: best validation micro-F1 of the head {self.best:.4f}")


def save_weights(folder: Path, model: MovieEncoder, found: Figures) -> None:
    """Writes the given weights as a finished run that `load_weights` can read."""
    live = {n for n, p in model.named_parameters() if p.requires_grad}
    content = {
        "model": {n: t for n, t in model.state_dict().items() if n in live}, "step": 0, "figures": found.as_dict()
    }  # fmt: skip
    for name in (BEST, "last.pt"):
        _save(folder / name, content)


def without_bridge(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(BRIDGE)}


def load_weights(folder: Path, bases: Bases, which: str) -> tuple[Config, MovieEncoder, dict]:
    """Returns a new model with a run's averaged weights (`which`: best or last), ready to encode."""
    config = Config.read(folder)
    path = folder / f"{which}.pt"
    if not path.is_file():
        raise RunError(f"{path}: expected weights, found none; the run has not reached its first evaluation")
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = new_model(config, bases)
    unexpected = model.load_state_dict(without_bridge(state["model"]), strict=False).unexpected_keys
    if unexpected:
        raise RunError(f"{path}: expected weights that match {CONFIG}, found {unexpected[:3]}")
    model.eval()
    return config, model, state
