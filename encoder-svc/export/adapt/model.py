"""MiniLM in plain torch, with the projection to 512 for the sentence vector and a linear genre head.

token ids -> 6 BERT layers (384 wide, 12 heads, 1536 feed-forward, exact GELU, post-norm) -> mean over tokens
-> projection 384 -> 512 -> activation (tanh or L2 norm): the vector -> linear 512 -> 20: the logits (training only).

Parameters have the names of the base file (``encoder.layer.0.attention.self.query.weight``, ...). Word and position
embeddings stay frozen, because they would be most of the adapter's bytes. `multiply_in_bfloat16` speeds up training on
processors that support it; weights, sums and all evaluation stay in float32.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

LAYERS, WIDTH, HEADS, INNER, VECTOR, EPS = 6, 384, 12, 1536, 512, 1e-12
ACTIVATIONS = ("tanh", "l2")

# The adapted linear layers of one encoder layer, with their shapes [out, in].
ADAPTED: dict[str, tuple[int, int]] = {
    "attention.self.query": (WIDTH, WIDTH),
    "attention.self.key": (WIDTH, WIDTH),
    "attention.self.value": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "intermediate.dense": (INNER, WIDTH),
    "output.dense": (WIDTH, INNER),
}


def adapted_names() -> list[str]:
    """Returns the base file's names (without ``.weight``) of all adapted linear layers."""
    return [f"encoder.layer.{i}.{name}" for i in range(LAYERS) for name in ADAPTED]


def small_names() -> list[str]:
    """Returns the names of the adapted biases and layer norms, which are stored in full."""
    names = ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    for i in range(LAYERS):
        names += [f"encoder.layer.{i}.{name}.bias" for name in ADAPTED]
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            names += [f"encoder.layer.{i}.{norm}.weight", f"encoder.layer.{i}.{norm}.bias"]
    return names


class Bfloat16Linear(torch.autograd.Function):
    """``x weight^T`` with its three matrix products in bfloat16 and everything else in float32.

    On processors with AVX-512 BF16 this is faster, while norms, sums and attention in bfloat16 would be slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.bfloat16()
        to_x = (gradient @ weight).float() if ctx.needs_input_grad[0] else None
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (gradient.flatten(0, -2).t() @ x.flatten(0, -2)).float()
        return to_x, to_weight


class Linear(nn.Module):
    """A linear layer with an optional low-rank branch ``x down^T up^T``."""

    def __init__(self, out_features: int, in_features: int) -> None:
        super().__init__()
        self.bfloat16 = False
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.register_parameter("lora_down", None)
        self.register_parameter("lora_up", None)

    def add_low_rank(self, rank: int) -> None:
        out_features, in_features = self.weight.shape
        self.weight.requires_grad_(False)
        self.lora_down = nn.Parameter(torch.randn(rank, in_features) / math.sqrt(in_features))
        self.lora_up = nn.Parameter(torch.zeros(out_features, rank))

    def merged(self) -> Tensor:
        return self.weight if self.lora_down is None else self.weight + self.lora_up @ self.lora_down

    def forward(self, x: Tensor) -> Tensor:
        product = Bfloat16Linear.apply if self.bfloat16 else F.linear
        y = product(x, self.weight) + self.bias
        if self.lora_down is not None:
            y = y + F.linear(F.linear(x, self.lora_down), self.lora_up)
        return y


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            layer(x).view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        # On processors the backward pass of torch's fused attention is slower than these four steps.
        scores = q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
        y = torch.softmax(scores if bias is None else scores + bias, -1) @ v
        return y.transpose(1, 2).reshape(batch, length, WIDTH)


class ResidualOutput(nn.Module):
    """dense -> dropout -> add -> norm, the end of both of BERT's blocks."""

    def __init__(self, in_features: int, dropout: float) -> None:
        super().__init__()
        self.dense = Linear(WIDTH, in_features)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPS)
        self.dropout = dropout

    def forward(self, y: Tensor, residual: Tensor) -> Tensor:
        y = F.dropout(self.dense(y), self.dropout, self.training)
        return self.LayerNorm(y + residual)


class Attention(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.self = SelfAttention()
        self.output = ResidualOutput(WIDTH, dropout)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return self.output(self.self(x, bias), x)


class Intermediate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dropout)
        self.intermediate = Intermediate()
        self.output = ResidualOutput(INNER, dropout)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        x = self.attention(x, bias)
        return self.output(self.intermediate(x), x)


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(30522, WIDTH)
        self.position_embeddings = nn.Embedding(512, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.word_embeddings(ids) + self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(x + self.token_type_embeddings.weight[0])


class Encoder(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))


class MovieEncoder(nn.Module):
    """Encodes token ids to a 512-vector, with a linear genre head for training."""

    def __init__(self, genres: int, activation: str, dropout: float, head_dropout: float) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.activation, self.head_dropout, self.dropout = activation, head_dropout, dropout
        self.embeddings = Embeddings()
        self.encoder = Encoder(dropout)
        self.projection = nn.Linear(WIDTH, VECTOR)
        self.head = nn.Linear(VECTOR, genres)
        nn.init.normal_(self.projection.weight, std=0.05)
        nn.init.zeros_(self.projection.bias)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            getattr(self.embeddings, table).weight.requires_grad_(False)

    def load_base(self, path: Path) -> None:
        """Loads the base file's weights. It must have every parameter except projection and head."""
        base = {k: v.float() for k, v in load_file(path).items() if not k.startswith("pooler.")}
        base.pop("embeddings.position_ids", None)
        own = set(self.state_dict()) - {"projection.weight", "projection.bias", "head.weight", "head.bias"}
        if own != set(base):
            raise ValueError(f"{path} is not the expected base: {sorted(own ^ set(base))[:4]} differ")
        self.load_state_dict(base, strict=False)

    def multiply_in_bfloat16(self, on: bool) -> None:
        for module in self.modules():
            if isinstance(module, Linear):
                module.bfloat16 = on

    def pool(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns the mean of the last layer's tokens, `[batch, 384]`."""
        bias = None
        if not bool(mask.all()):
            bias = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -1e4)[:, None, None, :]
        x = F.dropout(self.embeddings(ids), self.dropout, self.training)
        for layer in self.encoder.layer:
            x = layer(x, bias)
        weights = mask[:, :, None].float()
        return (x * weights).sum(1) / weights.sum(1)

    def vector(self, pooled: Tensor) -> Tensor:
        """Returns the sentence vectors `[batch, 512]`."""
        x = self.projection(F.dropout(pooled, self.dropout, self.training))
        return torch.tanh(x) if self.activation == "tanh" else F.normalize(x, dim=-1)

    def logits(self, vector: Tensor) -> Tensor:
        """Returns genre logits. A unit vector is scaled up first, so the head's weights can stay small."""
        scale = 1.0 if self.activation == "tanh" else 16.0
        return self.head(F.dropout(vector * scale, self.head_dropout, self.training))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.logits(self.vector(self.pool(ids, mask)))
