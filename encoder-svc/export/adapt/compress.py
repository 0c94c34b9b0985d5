"""Distils full runs into a low-rank run: the student starts as the truncated mean of its teachers and learns their outputs.

Truncation alone loses some F1. Matching the teachers' vectors and probabilities on train texts for some hundred steps
recovers it (docs/experiments.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from export.adapt.adapter_file import truncated
from export.adapt.model import MovieEncoder, adapted_names
from export.adapt.train import Trainer

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


class Compressor(Trainer):
    """A run whose targets are the mean outputs of its teachers instead of the labels."""

    teachers: list[MovieEncoder]

    def _loss(self, ids: Tensor, mask: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        with torch.no_grad():
            taught = [teacher.vector(teacher.pool(ids, mask)) for teacher in self.teachers]
            chances = torch.stack([torch.sigmoid(t.logits(v)) for t, v in zip(self.teachers, taught, strict=True)])
            target = torch.stack(taught).mean(0)
        vector = self.model.vector(self.model.pool(ids, mask))
        # What the teachers know of a label does not depend on what its file knows, so only the movie's weight counts.
        movie = weights.amax(1, keepdim=True)
        apart = (movie * (vector - target).square()).mean(1).sum() * weights.shape[1]
        told = F.binary_cross_entropy_with_logits(self.model.logits(vector), chances.mean(0), weight=movie, reduction="sum")
        return VECTOR_WEIGHT * apart + told
