"""Distils full runs into a smaller one: the student starts as the truncated mean of its teachers and learns their outputs.

It is truncated to low-rank changes of the base, or to some of the layers. Truncation alone loses some F1. Matching the teachers' vectors and probabilities on train texts for some hundred steps
recovers it (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.adapt.adapter_file import truncated
from export.adapt.model import VECTOR, MovieEncoder, adapted_names
from export.adapt.train import BRIDGE, Trainer, encode
from export.minilm.weights import of_layers

VECTOR_WEIGHT = 10.0  # Weight of the vectors' mean squared error beside the probabilities' cross-entropy.


@torch.no_grad()
def student_of(mean: MovieEncoder, base: MovieEncoder, rank: int) -> MovieEncoder:
    """Returns `base` with the change to `mean` truncated to low-rank branches; other parameters are those of `mean`."""
    student = base
    weights = {f"{name}.weight" for name in adapted_names()}
    rest = {name: tensor for name, tensor in mean.state_dict().items() if name not in weights}
    student.load_state_dict(rest, strict=False)
    for name in adapted_names():
        layer = student.get_submodule(name)
        up, down = truncated(mean.get_submodule(name).weight - layer.weight, rank)
        layer.add_low_rank(rank)
        layer.lora_up.copy_(up)
        layer.lora_down.copy_(down)
    return student


@torch.no_grad()
def student_of_layers(mean: MovieEncoder, student: MovieEncoder) -> MovieEncoder:
    """Returns `student` with the weights of `mean` in the layers that it has."""
    student.load_state_dict(of_layers(mean.state_dict(), student.layers))
    return student


def add_bridge(student: MovieEncoder) -> None:
    """Adds a linear map from the student's vectors to those of teachers of another architecture, which have other axes.

    Only training uses it. Without one, the student's vectors must become the teachers' themselves."""
    student.add_module(BRIDGE, nn.Linear(VECTOR, VECTOR))


@torch.no_grad()
def fit_bridge(student: MovieEncoder, teachers: Sequence[MovieEncoder], rows: list[list[int]]) -> None:
    """Sets the map to the least squares fit on the texts `rows`, of which there should be several thousand."""
    mine = torch.from_numpy(encode(student, rows)[0])
    theirs = torch.stack([torch.from_numpy(encode(teacher, rows)[0]) for teacher in teachers]).mean(0)
    fit = torch.linalg.lstsq(F.pad(mine, (0, 1), value=1.0), theirs).solution
    student.bridge.weight.copy_(fit[:-1].T)
    student.bridge.bias.copy_(fit[-1])


class Compressor(Trainer):
    """A run whose targets are the mean outputs of its teachers instead of the labels."""

    teachers: list[MovieEncoder]

    def _loss(self, ids: Tensor, mask: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        with torch.no_grad():
            taught = [teacher.vector(teacher.pool(ids, mask)) for teacher in self.teachers]
            chances = torch.stack([torch.sigmoid(t.logits(v)) for t, v in zip(self.teachers, taught, strict=True)])
            target = torch.stack(taught).mean(0)
        vector = self.model.vector(self.model.pool(ids, mask))
        bridge = getattr(self.model, BRIDGE, None)
        shown = vector if bridge is None else bridge(vector)
        # What the teachers know of a label does not depend on what its file knows, so only the movie's weight counts.
        movie = weights.amax(1, keepdim=True)
        apart = (movie * (shown - target).square()).mean(1).sum() * weights.shape[1]
        told = F.binary_cross_entropy_with_logits(self.model.logits(vector), chances.mean(0), weight=movie, reduction="sum")
        return VECTOR_WEIGHT * apart + told
