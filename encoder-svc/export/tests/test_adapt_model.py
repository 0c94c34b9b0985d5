"""Training in bfloat16 is close to training in float32."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: install requirements-adapt.txt")

from export.adapt.model import Linear


@pytest.mark.parametrize("rank", [0, 3])
def test_bfloat16_layer_and_gradients_are_close_to_float32(rank: int) -> None:
    torch.manual_seed(0)
    layer = Linear(48, 32)
    torch.nn.init.normal_(layer.weight, std=0.2)
    if rank:
        layer.add_low_rank(rank)
    x = torch.randn(4, 7, 32, requires_grad=True)
    found = []
    for half in (False, True):
        layer.bfloat16 = half
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.square().sum().backward()
        gradients = [p.grad.flatten() for p in (x, *layer.parameters()) if p.grad is not None]
        found.append((y.detach().flatten(), torch.cat(gradients)))
    (exact, exact_gradient), (near, near_gradient) = found
    assert torch.cosine_similarity(exact, near, dim=0) > 0.9999
    assert torch.cosine_similarity(exact_gradient, near_gradient, dim=0) > 0.9999
    assert (layer.weight.grad is None) == bool(rank)
