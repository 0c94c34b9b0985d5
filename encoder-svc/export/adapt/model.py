"""MiniLM in plain torch, with the projection to 512 for the sentence vector and a linear genre head.

token ids -> 6 BERT layers, or some of them (384 wide, 12 heads, 1536 feed-forward, exact GELU, post-norm) -> mean over tokens
-> projection 384 -> 512 -> activation (tanh or L2 norm): the vector -> linear 512 -> 20: the logits (training only).

Parameters have the names of the base file (``encoder.layer.0.attention.self.query.weight``, ...). Word and position
embeddings stay frozen, because they would be most of the adapter's bytes. `multiply_in_bfloat16` speeds up training on
processors that support it; weights, sums and all evaluation stay in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from export.minilm.weights import of_layers

LAYERS, VECTOR = 6, 512
ACTIVATIONS = ("tanh", "l2")


@dataclass(frozen=True)
class Architecture:
    """The sizes of an encoder and what else differs between BERT and MPNet (Song et al., 2020, arXiv:2004.09297).

    MPNet adds to the attention scores a learned bias for each head and distance of two tokens (`relative`), counts positions
    from `first_position` and has no segments. Its words have BERT's ids plus `first_word`. `names` maps a part of its base file's
    names to BERT's."""

    layers: int
    width: int
    heads: int
    inner: int
    words: int
    positions: int
    epsilon: float
    first_position: int = 0
    first_word: int = 0
    relative: bool = False
    names: tuple[tuple[str, str], ...] = ()


ARCHITECTURES = {
    "minilm": Architecture(LAYERS, 384, 12, 1536, 30522, 512, 1e-12),
    "mpnet": Architecture(
        12, 768, 12, 3072, 30527, 514, 1e-5, first_position=2, first_word=4, relative=True,
        names=(
            ("attention.attn.q.", "attention.self.query."), ("attention.attn.k.", "attention.self.key."),
            ("attention.attn.v.", "attention.self.value."), ("attention.attn.o.", "attention.output.dense."),
            ("attention.LayerNorm.", "attention.output.LayerNorm."),
        ),
    ),
}  # fmt: skip
MINILM = ARCHITECTURES["minilm"]

# The adapted linear layers of one encoder layer.
ADAPTED = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense",
    "output.dense",
)  # fmt: skip


def adapted_names(layers: int = LAYERS) -> list[str]:
    """Returns the names (without ``.weight``) of the adapted linear layers of an encoder with `layers` layers."""
    return [f"encoder.layer.{i}.{name}" for i in range(layers) for name in ADAPTED]


def small_names(layers: int = LAYERS) -> list[str]:
    """Returns the names of the adapted biases and layer norms, which are stored in full."""
    names = ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    for i in range(layers):
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
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query, self.key, self.value = (Linear(sizes.width, sizes.width) for _ in range(3))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            layer(x).view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        # On processors the backward pass of torch's fused attention is slower than these four steps.
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        y = torch.softmax(scores if bias is None else scores + bias, -1) @ v
        return y.transpose(1, 2).reshape(batch, length, width)


class ResidualOutput(nn.Module):
    """dense -> dropout -> add -> norm, the end of both of BERT's blocks."""

    def __init__(self, sizes: Architecture, in_features: int, dropout: float) -> None:
        super().__init__()
        self.dense = Linear(sizes.width, in_features)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.dropout = dropout

    def forward(self, y: Tensor, residual: Tensor) -> Tensor:
        y = F.dropout(self.dense(y), self.dropout, self.training)
        return self.LayerNorm(y + residual)


class Attention(nn.Module):
    def __init__(self, sizes: Architecture, dropout: float) -> None:
        super().__init__()
        self.self = SelfAttention(sizes)
        self.output = ResidualOutput(sizes, sizes.width, dropout)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return self.output(self.self(x, bias), x)


class Intermediate(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.dense = Linear(sizes.inner, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    def __init__(self, sizes: Architecture, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(sizes, dropout)
        self.intermediate = Intermediate(sizes)
        self.output = ResidualOutput(sizes, sizes.inner, dropout)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        x = self.attention(x, bias)
        return self.output(self.intermediate(x), x)


class Embeddings(nn.Module):
    """Token ids are always BERT's. MPNet has the same words at other ids, and its own ids of BERT's special tokens."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.first_position = sizes.first_position
        self.word_embeddings = nn.Embedding(sizes.words, sizes.width)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        self.token_type_embeddings = None if sizes.relative else nn.Embedding(2, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        ids = torch.arange(MINILM.words) + sizes.first_word
        if sizes.relative:
            ids[[0, 101, 102, 103]] = torch.tensor([1, 0, 2, sizes.words - 1])  # padding, start, end, mask
        self.register_buffer("own_ids", ids, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        first = self.first_position
        x = self.word_embeddings(self.own_ids[ids]) + self.position_embeddings.weight[first : first + ids.shape[1]]
        return self.LayerNorm(x if self.token_type_embeddings is None else x + self.token_type_embeddings.weight[0])


def distance_buckets(length: int, buckets: int = 32, furthest: int = 128) -> Tensor:
    """Returns the bucket of each pair of query and key `[length, length]`: exact for near ones, logarithmic for far ones.

    As in T5 (Raffel et al., 2020, arXiv:1910.10683): the upper half of the buckets is for keys after the query."""
    apart = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    half = buckets // 2
    exact = half // 2
    distance = apart.abs()
    far = exact + (torch.log(distance.clamp(min=1) / exact) / math.log(furthest / exact) * (half - exact)).long()
    return half * (apart > 0) + torch.where(distance < exact, distance, far.clamp(max=half - 1))


class Encoder(nn.Module):
    def __init__(self, sizes: Architecture, layers: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(sizes, dropout) for _ in range(layers))
        self.relative_attention_bias = nn.Embedding(32, sizes.heads) if sizes.relative else None


class MovieEncoder(nn.Module):
    """Encodes token ids to a 512-vector, with a linear genre head for training. `layers` are those that it has of the base's."""

    def __init__(
        self, genres: int, activation: str, dropout: float, head_dropout: float, layers: Sequence[int] = range(LAYERS),
        architecture: Architecture = MINILM,
    ) -> None:  # fmt: skip
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.activation, self.head_dropout, self.dropout = activation, head_dropout, dropout
        self.layers = tuple(layers)
        self.architecture = architecture
        self.embeddings = Embeddings(architecture)
        self.encoder = Encoder(architecture, len(self.layers), dropout)
        self.projection = nn.Linear(architecture.width, VECTOR)
        self.head = nn.Linear(VECTOR, genres)
        nn.init.normal_(self.projection.weight, std=0.05)
        nn.init.zeros_(self.projection.bias)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        for name, table in self.embeddings.named_parameters():
            table.requires_grad_(name.startswith("LayerNorm"))

    def load_base(self, path: Path) -> None:
        """Loads the base file's weights. It must have every parameter except projection and head."""
        base = {k: v.float() for k, v in load_file(path).items() if not k.startswith("pooler.")}
        base.pop("embeddings.position_ids", None)
        for theirs, ours in self.architecture.names:
            base = {name.replace(theirs, ours): tensor for name, tensor in base.items()}
        base = of_layers(base, self.layers)
        own = set(self.state_dict()) - {"projection.weight", "projection.bias", "head.weight", "head.bias"}
        if own != set(base):
            raise ValueError(f"{path} is not the expected base: {sorted(own ^ set(base))[:4]} differ")
        self.load_state_dict(base, strict=False)

    def multiply_in_bfloat16(self, on: bool) -> None:
        for module in self.modules():
            if isinstance(module, Linear):
                module.bfloat16 = on

    def pool(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns the mean of the last layer's tokens, `[batch, width]`."""
        bias = None
        if not bool(mask.all()):
            bias = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -1e4)[:, None, None, :]
        if self.encoder.relative_attention_bias is not None:
            near = self.encoder.relative_attention_bias(distance_buckets(ids.shape[1]).to(ids.device)).permute(2, 0, 1)
            bias = near if bias is None else bias + near
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
