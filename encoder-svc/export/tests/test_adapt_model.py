"""Training in bfloat16 is close to training in float32, MPNet's parts, and encoders with fewer layers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: install requirements-adapt.txt")

from export.adapt.compress import add_bridge, fit_bridge, student_of_layers
from export.adapt.model import ARCHITECTURES, Embeddings, Linear, MovieEncoder, distance_buckets
from export.adapt.train import encode, without_bridge


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


def test_distances_of_tokens_share_buckets_the_further_they_are() -> None:
    buckets = distance_buckets(300)
    assert buckets[0, :11].tolist() == [0, 17, 18, 19, 20, 21, 22, 23, 24, 24, 24]
    assert buckets[:11, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert (buckets[0, 127].item(), buckets[0, 299].item(), buckets[299, 0].item()) == (31, 31, 15)
    assert (buckets[5:, 5:] == buckets[:-5, :-5]).all()


def test_mpnet_reads_the_ids_of_minilm() -> None:
    ids = Embeddings(ARCHITECTURES["mpnet"]).own_ids
    assert ids[[0, 100, 101, 102, 103, 1000, 30521]].tolist() == [1, 104, 0, 2, 30526, 1004, 30525]
    assert Embeddings(ARCHITECTURES["minilm"]).own_ids.tolist() == list(range(30522))


def test_a_student_has_the_weights_of_the_layers_that_it_keeps() -> None:
    torch.manual_seed(3)
    teacher, student = (MovieEncoder(4, "tanh", 0.0, 0.0, layers) for layers in (range(6), (0, 2, 5)))
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    student_of_layers(teacher, student)
    for mine, theirs in zip(student.encoder.layer, (teacher.encoder.layer[i] for i in (0, 2, 5)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert torch.equal(student.head.weight, teacher.head.weight)


def test_the_bridge_to_another_architecture_starts_as_a_fit_and_is_left_behind() -> None:
    torch.manual_seed(4)
    student, teacher = (MovieEncoder(4, "tanh", 0.0, 0.0, (0,)) for _ in range(2))
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    teacher.load_state_dict(student.state_dict())
    names = set(student.state_dict())
    rows = torch.randint(1000, 30000, (600, 3)).tolist()
    add_bridge(student)
    fit_bridge(student, [teacher], rows)
    vectors = torch.from_numpy(encode(student, rows[:9])[0])
    assert torch.allclose(student.bridge(vectors), vectors, atol=0.01)
    assert set(without_bridge(student.state_dict())) == names < set(student.state_dict())
