"""The quality of vectors: micro- and macro-F1 of a set of probabilities, and the MLP probe on frozen vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

THRESHOLDS = np.round(np.arange(0.05, 0.81, 0.01), 2)


@dataclass(frozen=True)
class Figures:
    """The figures of a set of probabilities.

    `micro_f1` and `macro_f1` use the single threshold with the best micro-F1. `macro_f1_per_genre` and
    `micro_f1_per_genre` use the best threshold of each genre."""

    loss: float
    micro_f1: float
    macro_f1: float
    threshold: float
    micro_f1_per_genre: float
    macro_f1_per_genre: float

    def line(self) -> str:
        return (
            f"loss {self.loss:.4f}  micro {self.micro_f1:.4f} macro {self.macro_f1:.4f} at {self.threshold:.2f}  "
            f"per-genre thresholds: micro {self.micro_f1_per_genre:.4f} macro {self.macro_f1_per_genre:.4f}"
        )

    def as_dict(self) -> dict[str, float]:
        return {name: round(float(value), 5) for name, value in asdict(self).items()}


def _f1(tp: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    return 2 * tp / np.maximum(predicted + actual, 1)


def figures(probabilities: np.ndarray, labels: np.ndarray) -> Figures:
    """Returns the figures of probabilities `[movies, genres]` against labels of 0 and 1."""
    truth = labels > 0.5
    over = probabilities[None] > THRESHOLDS[:, None, None]
    tp = (over & truth).sum(1)
    predicted, actual = over.sum(1), truth.sum(0)
    micro = _f1(tp.sum(1), predicted.sum(1), actual.sum())
    per_genre = _f1(tp, predicted, actual)
    best, own = int(micro.argmax()), per_genre.argmax(0)
    columns = np.arange(labels.shape[1])
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return Figures(
        loss=float(-(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean()),
        micro_f1=float(micro[best]),
        macro_f1=float(per_genre[best].mean()),
        threshold=float(THRESHOLDS[best]),
        micro_f1_per_genre=float(_f1(tp[own, columns].sum(), predicted[own, columns].sum(), actual.sum())),
        macro_f1_per_genre=float(per_genre[own, columns].mean()),
    )


def fit_head(
    vectors: np.ndarray, labels: np.ndarray, validation: tuple[np.ndarray, np.ndarray], epochs: int = 30
) -> tuple[nn.Linear, float]:
    """Returns a linear head for frozen vectors, from the epoch with the least validation loss, and that loss."""
    torch.manual_seed(0)
    x, y, vx, vy = (torch.from_numpy(a).float() for a in (vectors, labels, *validation))
    head = nn.Linear(x.shape[1], y.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    best, best_loss = head.state_dict(), float("inf")
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            loss = F.binary_cross_entropy_with_logits(head(F.dropout(x[rows], 0.2)), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            value = F.binary_cross_entropy_with_logits(head(vx), vy).item()
        if value < best_loss:
            best, best_loss = {name: tensor.clone() for name, tensor in head.state_dict().items()}, value
    head.load_state_dict(best)
    return head, best_loss


def fit_probe(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    also: np.ndarray,
    *,
    units: int = 256,
    dropout: float = 0.3,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    batch: int = 128,
    patience: int = 10,
    seed: int = 0,
    epochs: int = 200,
) -> np.ndarray:
    """Fits an MLP (ReLU, dropout) on frozen vectors with early stopping on validation loss, as the trainer does.

    Returns its probabilities for the vectors `also`."""
    torch.manual_seed(seed)
    x, y = (torch.from_numpy(a).float() for a in train)
    vx, vy = (torch.from_numpy(a).float() for a in validation)
    ax = torch.from_numpy(also).float()
    net = nn.Sequential(nn.Linear(x.shape[1], units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(units, y.shape[1]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=weight_decay)
    best, best_loss, bad = None, float("inf"), 0
    for _ in range(epochs):
        net.train()
        for rows in torch.randperm(len(x)).split(batch):
            loss = F.binary_cross_entropy_with_logits(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            value = F.binary_cross_entropy_with_logits(net(vx), vy).item()
        if value < best_loss - 1e-4:
            with torch.no_grad():
                best_loss, best, bad = value, torch.sigmoid(net(ax)).numpy(), 0
        elif (bad := bad + 1) >= patience:
            break
    assert best is not None
    return best
